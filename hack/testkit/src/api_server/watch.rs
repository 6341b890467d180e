//! Watches: a line of JSON for each event, until the client's timeout or the end of the connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Response, header};
use futures::{Stream, StreamExt, stream};
use serde_json::{Value, json};

use super::objects::Event;
use super::selector::Selector;
use super::{Resource, Shared, answer};

/// What a client wants to hear of.
pub(crate) struct Watch {
    pub(crate) resource: Resource,
    pub(crate) selector: Selector,
    pub(crate) from: u64,
    pub(crate) timeout: Duration,
}

struct Position {
    shared: Shared,
    watch: Watch,
    ready: VecDeque<Event>,
    over: bool,
}

pub(crate) fn response(shared: Shared, watch: Watch) -> Response<Body> {
    let timeout = tokio::time::sleep(watch.timeout);
    let lines = lines(shared, watch).map(|value| Ok::<_, Infallible>(format!("{value}\n"))).take_until(timeout);
    Response::builder().header(header::CONTENT_TYPE, "application/json").body(Body::from_stream(lines)).unwrap()
}

fn lines(shared: Shared, watch: Watch) -> impl Stream<Item = Value> + Send {
    let position = Position { shared, watch, ready: VecDeque::new(), over: false };
    stream::unfold(position, |mut position| async move {
        let mut written = position.shared.written.subscribe();
        loop {
            if position.over {
                return None;
            }
            if let Some(event) = position.ready.pop_front() {
                position.watch.from = event.revision;
                return Some((json!({"type": event.kind, "object": event.object}), position));
            }
            let news = position.shared.state().objects.since(position.watch.resource, position.watch.from);
            match news {
                None => {
                    position.over = true;
                    let gone = answer::status(410, "Expired", "too old resource version");
                    return Some((json!({"type": "ERROR", "object": gone}), position));
                }
                Some(events) if events.is_empty() => written.changed().await.ok()?,
                Some(events) => {
                    let wanted = events.into_iter().filter(|event| position.watch.selector.matches(&event.object));
                    position.ready = wanted.collect();
                    if position.ready.is_empty() {
                        written.changed().await.ok()?;
                    }
                }
            }
        }
    })
}
