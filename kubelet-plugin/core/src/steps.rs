//! What is done for a claim, step by step, and how it is undone.
//!
//! The record of a claim is no step: it is kept before the first of them and dropped after all of them are undone, so
//! that whatever is on the node has an owner. That is for the caller to see to, within the same lock as the plan.

use crate::{Identity, Record};

/// One thing that is done for a claim. The order of the steps is the order of [`Record::steps`]; undoing goes backwards.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Tell the container runtime. The last step: once a runtime can read the spec, everything it names is there.
    Describe {
        /// The file.
        file: cdi::FileName,
        /// What it says.
        spec: cdi::Document,
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
    /// What could not be undone. Its record must stay: a repeated call or the undoing of the claim gets it.
    pub left: Vec<E>,
}

impl Record {
    /// What has to be done for the claim besides work on the hardware, and after it, in order. Nothing as long as that
    /// work is not done, or when it is being undone.
    ///
    /// # Errors
    /// When CDI takes no file name that is made of the claim's UID.
    pub fn steps(&self, identity: &Identity) -> Result<Vec<Step>, cdi::InvalidName> {
        if !self.is_whole() {
            return Ok(Vec::new());
        }
        let file = identity.cdi_file(&self.claim.uid)?;
        Ok(vec![Step::Describe { file, spec: self.spec.clone() }])
    }
}

/// Carries the steps out; when one fails, all up to it are undone, so that all or nothing is done.
///
/// # Errors
/// The step's own error.
pub fn execute<X: Executor>(executor: &X, steps: &[Step]) -> Result<(), Failed<X::Error>> {
    for (index, step) in steps.iter().enumerate() {
        if let Err(cause) = executor.apply(step) {
            return Err(Failed { cause, left: revert(executor, &steps[..=index]) });
        }
    }
    Ok(())
}

/// Undoes the steps, the last first. Goes on after one that cannot be undone. Returns what could not be undone; only if
/// that is nothing may the record go.
pub fn revert<X: Executor>(executor: &X, steps: &[Step]) -> Vec<X::Error> {
    steps.iter().rev().filter_map(|step| executor.undo(step).err()).collect()
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
    use crate::testing::identity;

    /// Remembers which steps are in effect, and fails where it is told to.
    #[derive(Default)]
    struct Recorder {
        in_effect: RefCell<Vec<String>>,
        cannot_apply: Option<&'static str>,
        cannot_undo: Option<&'static str>,
    }

    fn name(step: &Step) -> String {
        let Step::Describe { file, .. } = step;
        file.as_str().to_owned()
    }

    impl Executor for Recorder {
        type Error = String;

        fn apply(&self, step: &Step) -> Result<(), String> {
            // As a real one may: it fails after it has done half of it.
            self.in_effect.borrow_mut().push(name(step));
            if self.cannot_apply == Some(&name(step)) { Err(name(step)) } else { Ok(()) }
        }

        fn undo(&self, step: &Step) -> Result<(), String> {
            if self.cannot_undo == Some(&name(step)) {
                return Err(name(step));
            }
            self.in_effect.borrow_mut().retain(|known| *known != name(step));
            Ok(())
        }

        fn holds(&self, step: &Step) -> bool {
            self.in_effect.borrow().contains(&name(step))
        }
    }

    const STEPS: [&str; 3] = ["first.json", "second.json", "third.json"];

    fn steps() -> Vec<Step> {
        let spec = crate::testing::record("uid-1", 1).spec;
        STEPS.map(|file| Step::Describe { file: file.parse().unwrap(), spec: spec.clone() }).to_vec()
    }

    #[test]
    fn a_claim_ends_with_its_description() {
        let record = crate::testing::record("uid-1", 1);
        let steps = record.steps(&identity()).unwrap();
        assert!(matches!(steps.last(), Some(Step::Describe { spec, .. }) if *spec == record.spec));
    }

    #[test]
    fn all_or_nothing_is_done() {
        let recorder = Recorder::default();
        execute(&recorder, &steps()).unwrap();
        assert_eq!(*recorder.in_effect.borrow(), STEPS);
        for step in STEPS {
            let recorder = Recorder { cannot_apply: Some(step), ..Recorder::default() };
            let failed = execute(&recorder, &steps()).unwrap_err();
            assert_eq!((failed.cause.as_str(), failed.left), (step, vec![]));
            assert!(recorder.in_effect.borrow().is_empty(), "{step} failed and something is left");
        }
    }

    #[test]
    fn what_cannot_be_undone_is_told_and_the_rest_is_undone() {
        let recorder = Recorder { cannot_undo: Some("second.json"), ..Recorder::default() };
        execute(&recorder, &steps()).unwrap();
        assert_eq!(revert(&recorder, &steps()), ["second.json"]);
        assert_eq!(*recorder.in_effect.borrow(), ["second.json"]);
        let recorder = Recorder { cannot_undo: None, ..recorder };
        assert!(revert(&recorder, &steps()).is_empty());
        assert!(recorder.in_effect.borrow().is_empty());
    }

    #[test]
    fn only_what_is_missing_is_done_again() {
        let recorder = Recorder::default();
        assert_eq!(repair(&recorder, &steps()), Ok(3));
        assert_eq!(repair(&recorder, &steps()), Ok(0));
        recorder.undo(&steps()[1]).unwrap();
        assert_eq!(repair(&recorder, &steps()), Ok(1));
    }
}
