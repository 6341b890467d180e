//! What is done for a claim, step by step, and how it is undone.

use crate::{Identity, Record};

/// One thing that is done for a claim. The order of the steps is the order of [`Record::steps`]; undoing goes backwards.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Keep the record, so that a later agent knows what was done. The first step, and the last to be undone: whatever
    /// is on the node has an owner.
    Keep(Box<Record>),
    /// Tell the container runtime. The last step: once a runtime can read the spec, everything it names is there.
    Describe {
        /// The file.
        file: cdi::FileName,
        /// What it says.
        spec: Box<cdi::Spec>,
    },
}

/// Who carries steps out. Each of the three may be called again for a step that was carried out, or half carried out,
/// before: by this agent or by one that died.
pub trait Executor {
    /// Why a step failed.
    type Error;

    /// Carries the step out.
    ///
    /// # Errors
    /// Then the step has no effect, or one that [`Executor::undo`] removes.
    fn apply(&self, step: &Step) -> Result<(), Self::Error>;

    /// Removes the effect of the step. That there is none is fine.
    ///
    /// # Errors
    /// Then it is worth another try.
    fn undo(&self, step: &Step) -> Result<(), Self::Error>;

    /// Whether the effect of the step is there, whole.
    fn holds(&self, step: &Step) -> bool;
}

/// A step that failed, after which every earlier one was undone.
#[derive(Debug)]
pub struct Failed<E> {
    /// Why it failed.
    pub cause: E,
    /// What could not be undone. The record still owns it: a repeated call or the undoing of the claim gets it.
    pub left: Vec<E>,
}

impl Record {
    /// What has to be done for the claim, in order.
    ///
    /// # Errors
    /// When CDI takes no file name that is made of the claim's UID.
    pub fn steps(&self, identity: &Identity) -> Result<Vec<Step>, cdi::InvalidName> {
        let file = identity.cdi_file(&self.claim.uid)?;
        Ok(vec![Step::Keep(Box::new(self.clone())), Step::Describe { file, spec: Box::new(self.spec.clone()) }])
    }
}

/// Carries the steps out, but for the first `done`, which were carried out before; when one fails, all up to it are
/// undone, so that all or nothing is done.
///
/// # Errors
/// The step's own error.
pub fn execute<X: Executor>(executor: &X, steps: &[Step], done: usize) -> Result<(), Failed<X::Error>> {
    for (index, step) in steps.iter().enumerate().skip(done) {
        if let Err(cause) = executor.apply(step) {
            return Err(Failed { cause, left: revert(executor, &steps[..=index]) });
        }
    }
    Ok(())
}

/// Undoes the steps backwards, and goes on after one that cannot be undone unless that is what a later step stands on.
/// Returns what could not be undone.
///
/// The record goes last and only if all else is gone: as long as something is left, it has an owner.
pub fn revert<X: Executor>(executor: &X, steps: &[Step]) -> Vec<X::Error> {
    let mut left = Vec::new();
    for step in steps.iter().rev() {
        if matches!(step, Step::Keep(_)) && !left.is_empty() {
            continue;
        }
        if let Err(error) = executor.undo(step) {
            left.push(error);
        }
    }
    left
}

/// Carries out again what is missing or damaged; says how many steps that were.
///
/// # Errors
/// Of the first step that fails. Nothing is undone: the claim is in use.
pub fn repair<X: Executor>(executor: &X, steps: &[Step]) -> Result<usize, X::Error> {
    let mut repaired = 0;
    for step in steps.iter().filter(|step| !executor.holds(step)) {
        executor.apply(step)?;
        repaired += 1;
    }
    Ok(repaired)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::testing::{identity, record};

    /// Remembers which steps are in effect, and fails where it is told to.
    #[derive(Default)]
    struct Recorder {
        in_effect: RefCell<Vec<&'static str>>,
        cannot_apply: Option<&'static str>,
        cannot_undo: Option<&'static str>,
    }

    fn name(step: &Step) -> &'static str {
        match step {
            Step::Keep(_) => "keep",
            Step::Describe { .. } => "describe",
        }
    }

    impl Executor for Recorder {
        type Error = &'static str;

        fn apply(&self, step: &Step) -> Result<(), &'static str> {
            // As a real one may: it fails after it has done half of it.
            self.in_effect.borrow_mut().push(name(step));
            if self.cannot_apply == Some(name(step)) { Err(name(step)) } else { Ok(()) }
        }

        fn undo(&self, step: &Step) -> Result<(), &'static str> {
            if self.cannot_undo == Some(name(step)) {
                return Err(name(step));
            }
            self.in_effect.borrow_mut().retain(|known| *known != name(step));
            Ok(())
        }

        fn holds(&self, step: &Step) -> bool {
            self.in_effect.borrow().contains(&name(step))
        }
    }

    fn steps() -> Vec<Step> {
        record("uid-1", 1).steps(&identity()).unwrap()
    }

    #[test]
    fn all_or_nothing_is_done() {
        let recorder = Recorder::default();
        execute(&recorder, &steps(), 0).unwrap();
        assert_eq!(*recorder.in_effect.borrow(), ["keep", "describe"]);
        for step in ["keep", "describe"] {
            let recorder = Recorder { cannot_apply: Some(step), ..Recorder::default() };
            let failed = execute(&recorder, &steps(), 0).unwrap_err();
            assert_eq!((failed.cause, failed.left), (step, vec![]));
            assert!(recorder.in_effect.borrow().is_empty(), "{step} failed and something is left");
        }
    }

    #[test]
    fn what_cannot_be_undone_keeps_its_owner() {
        let recorder = Recorder { cannot_undo: Some("describe"), ..Recorder::default() };
        execute(&recorder, &steps(), 0).unwrap();
        assert_eq!(revert(&recorder, &steps()), ["describe"]);
        assert_eq!(*recorder.in_effect.borrow(), ["keep", "describe"]);
        let recorder = Recorder { cannot_undo: None, ..recorder };
        assert!(revert(&recorder, &steps()).is_empty());
        assert!(recorder.in_effect.borrow().is_empty());
    }

    #[test]
    fn only_what_is_missing_is_done_again() {
        let recorder = Recorder::default();
        assert_eq!(repair(&recorder, &steps()), Ok(2));
        assert_eq!(repair(&recorder, &steps()), Ok(0));
        recorder.undo(&steps()[1]).unwrap();
        assert_eq!(repair(&recorder, &steps()), Ok(1));
    }
}
