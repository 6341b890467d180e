use std::time::{Duration, Instant, SystemTime};

use super::driver_files::Stamps;

/// How long what was looked at counts as it was: while a claim is read from the API server.
pub(super) const MOMENT: Duration = Duration::from_millis(10);

/// Something that was found, and when it has to be found anew.
#[derive(Debug)]
pub(super) struct Remembered<T> {
    pub(super) found: T,
    stamps: Stamps,
    /// When somebody last looked ahead and saw all of it as it was.
    pub(super) held: Option<Instant>,
}

impl<T> Remembered<T> {
    /// What was found, by a look that began then and depended on what these stamps are of. `None` where something had been changed
    /// just before: what was read may be half of a change, and its end may not show.
    pub(super) fn new(found: T, stamps: Stamps, looked: SystemTime) -> Option<Self> {
        stamps.settled(looked).then_some(Self { found, stamps, held: None })
    }

    /// Whether somebody looked ahead a moment ago.
    pub(super) fn is_fresh(&self) -> bool {
        self.held.is_some_and(|held| held.elapsed() < MOMENT)
    }

    /// Whether all is as it was. Costs a call a path.
    pub(super) fn holds(&self) -> bool {
        self.stamps.hold()
    }

    /// Whether all is as it was, now or a moment ago.
    pub(super) fn is_still_so(&mut self) -> bool {
        let began = Instant::now();
        let still = self.is_fresh() || self.holds();
        if still {
            self.hold(began);
        }
        still
    }

    /// Somebody `began` to look ahead then, and saw all of it as it was. Of what was looked at a moment ago that moment counts.
    pub(super) fn hold(&mut self, began: Instant) {
        if !self.is_fresh() {
            self.held = Some(began);
        }
    }
}
