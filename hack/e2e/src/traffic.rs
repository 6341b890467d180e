use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::Claim;

use crate::Calls;

/// Between two claims that are prepared.
const PACE: Duration = Duration::from_millis(100);

/// Whom the kubelet calls while there may be two agents: the one that registered last.
pub trait Newest {
    /// Its calls.
    fn calls(&mut self) -> &Calls;
}

/// What became of calls that went on while something else happened.
#[derive(Debug, Default)]
pub struct Traffic {
    /// How many prepares there were, each of them repeated.
    pub prepared: usize,
    /// What failed, with the reasons.
    pub failures: Vec<String>,
}

impl Traffic {
    /// Prepares one claim after the other, ten a second, each twice, and unprepares the oldest, until it is over; then
    /// unprepares all.
    pub fn until(over: &AtomicBool, claims: &[Claim], newest: &mut dyn Newest) -> Self {
        let mut traffic = Self::default();
        while !over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let number = traffic.prepared;
            let (claim, oldest) = (&claims[number % claims.len()], &claims[(number + 1) % claims.len()]);
            let first = newest.calls().prepare(claim);
            // The kubelet repeats calls, and the answer must be the same.
            let again = newest.calls().prepare(claim);
            if first.is_err() || first != again {
                traffic.failures.push(format!("prepare {number}: {first:?}, then {again:?}"));
            }
            if let Err(error) = newest.calls().unprepare(oldest) {
                traffic.failures.push(format!("unprepare {number}: {error}"));
            }
            traffic.prepared += 1;
            std::thread::sleep(PACE.saturating_sub(begun.elapsed()));
        }
        for claim in claims {
            traffic.failures.extend(newest.calls().unprepare(claim).err());
        }
        traffic
    }

    /// Fails if anything did.
    #[track_caller]
    pub fn assert_whole(&self) {
        let Self { prepared, failures } = self;
        assert!(failures.is_empty(), "{} failures in {prepared} prepares: {failures:#?}", failures.len());
    }
}
