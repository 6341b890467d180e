//! A bell that one thread waits for and anybody rings: however often it is rung before it is heard, it is heard once.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One end of the bell; clones are ends of the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bell {
    shared: Arc<(Mutex<State>, Condvar)>,
}

/// Why the waiting is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Somebody rang.
    Ring,
    /// Nobody rang for as long as was to be waited.
    Nothing,
    /// It will never ring again.
    End,
}

#[derive(Debug, Default)]
struct State {
    rung: bool,
    ended: bool,
}

impl Bell {
    /// Rings. Never waits.
    pub(crate) fn ring(&self) {
        self.state().rung = true;
        self.shared.1.notify_all();
    }

    /// Tells whoever waits that it is over.
    pub(crate) fn end(&self) {
        self.state().ended = true;
        self.shared.1.notify_all();
    }

    /// Waits for a ring, at most this long.
    pub(crate) fn wait(&self, longest: Duration) -> Heard {
        let deadline = Instant::now() + longest;
        let mut state = self.state();
        loop {
            if state.ended {
                return Heard::End;
            }
            if std::mem::take(&mut state.rung) {
                return Heard::Ring;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Heard::Nothing;
            }
            state = self.shared.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn many_rings_are_heard_once() {
        let bell = Bell::default();
        assert_eq!(bell.wait(Duration::ZERO), Heard::Nothing);
        (0..100).for_each(|_| bell.ring());
        assert_eq!(bell.wait(LONG), Heard::Ring, "also those of before");
        assert_eq!(bell.wait(Duration::ZERO), Heard::Nothing);
    }

    #[test]
    fn who_waits_hears_it_at_once() {
        let bell = Bell::default();
        for (act, heard) in [(Bell::ring as fn(&Bell), Heard::Ring), (Bell::end, Heard::End)] {
            let waiting = std::thread::spawn({
                let bell = bell.clone();
                move || bell.wait(LONG)
            });
            act(&bell);
            assert_eq!(waiting.join().unwrap(), heard);
        }
    }
}
