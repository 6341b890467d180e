//! Calls that the kernel may never answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Instant;

use tessera_vocabulary::PciAddress;

/// The calls that are under way, at most one for each function: one that was given up is waited for by the next, so
/// that the threads of a device that never answers do not pile up.
#[derive(Debug, Default)]
pub(super) struct Pending {
    functions: Mutex<BTreeMap<PciAddress, Arc<Turn>>>,
}

/// The call did not end before the deadline. It may still end, and have its effect.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unanswered;

#[derive(Debug, Default)]
struct Turn {
    taken: Mutex<bool>,
    free: Condvar,
}

/// Gives the turn on, also when the call panics.
struct Mine(Arc<Turn>);

impl Drop for Mine {
    fn drop(&mut self) {
        *self.0.taken.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.0.free.notify_one();
    }
}

impl Pending {
    /// Makes a call about a function on a thread of its own and waits for it until the deadline.
    pub(super) fn call<T: Send + 'static>(
        &self,
        function: PciAddress,
        deadline: Instant,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        let turn =
            Arc::clone(self.functions.lock().unwrap_or_else(PoisonError::into_inner).entry(function).or_default());
        let mine = take(turn, deadline)?;
        let (sender, receiver) = mpsc::channel();
        let thread = thread::Builder::new().name(format!("vfio {function}")).spawn(move || {
            let answer = call();
            drop(mine);
            // Nobody may be there any more.
            let _ = sender.send(answer);
        });
        // No thread to be had is as good as one that does not answer: later there may be.
        thread.map_err(|_| Unanswered)?;
        receiver.recv_timeout(left(deadline)).map_err(|_| Unanswered)
    }
}

fn take(turn: Arc<Turn>, deadline: Instant) -> Result<Mine, Unanswered> {
    let mut taken = turn.taken.lock().unwrap_or_else(PoisonError::into_inner);
    while *taken {
        if left(deadline).is_zero() {
            return Err(Unanswered);
        }
        taken = turn.free.wait_timeout(taken, left(deadline)).unwrap_or_else(PoisonError::into_inner).0;
    }
    *taken = true;
    drop(taken);
    Ok(Mine(turn))
}

pub(super) fn left(deadline: Instant) -> std::time::Duration {
    deadline.saturating_duration_since(Instant::now())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn one_that_does_not_answer_holds_up_only_its_function() {
        let (first, second) = ("0000:01:00.0".parse().unwrap(), "0000:02:00.0".parse().unwrap());
        let pending = Pending::default();
        let soon = || Instant::now() + Duration::from_millis(50);
        let (answer, answered) = mpsc::channel::<()>();
        assert_eq!(pending.call(first, soon(), move || answered.recv().is_err()), Err(Unanswered));
        assert_eq!(pending.call(first, soon(), || 1), Err(Unanswered), "the first call is still under way");
        let later = Instant::now() + Duration::from_secs(60);
        assert_eq!(pending.call(second, later, || 2), Ok(2));
        drop(answer);
        assert_eq!(pending.call(first, later, || 3), Ok(3));
    }

    #[test]
    fn a_panic_frees_the_turn() {
        let function = "0000:01:00.0".parse().unwrap();
        let pending = Pending::default();
        let later = Instant::now() + Duration::from_secs(60);
        assert_eq!(pending.call(function, later, || panic!("expected")), Err::<(), _>(Unanswered));
        assert_eq!(pending.call(function, later, || 1), Ok(1));
    }
}
