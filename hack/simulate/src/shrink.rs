//! A list of events that shows a violation, made as short as it gets: halves, quarters and so on are left out as long
//! as the same invariant breaks.

use crate::event::Event;
use crate::run::{Found, live};
use crate::setting::Setting;

/// The shortest list that was found, and how the invariant breaks with it.
pub fn shrink(found: &Found, setting: Setting) -> Found {
    let mut best = found.clone();
    let mut size = best.events.len().div_ceil(2);
    while size > 0 {
        let mut start = 0;
        let before = best.events.len();
        while start < best.events.len() {
            let end = (start + size).min(best.events.len());
            let fewer: Vec<Event> = best.events[..start].iter().chain(&best.events[end..]).copied().collect();
            match live(best.life, &fewer, setting).0 {
                Some((index, violation)) if violation.invariant == found.violation.invariant => {
                    best.events = fewer;
                    best.events.truncate(index + 1);
                    best.violation = violation;
                }
                _ => start = end,
            }
        }
        // Once more with single events, as long as that helps.
        if size > 1 || best.events.len() == before {
            size /= 2;
        }
    }
    best
}
