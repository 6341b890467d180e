use std::collections::BTreeSet;

/// The names of a list that a watch is receiving.
pub(crate) struct List<T> {
    received: BTreeSet<T>,
    complete: bool,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { received: BTreeSet::new(), complete: false }
    }
}

impl<T: Ord> List<T> {
    /// It is received from its beginning on.
    pub(crate) fn begin(&mut self) {
        self.received.clear();
    }

    pub(crate) fn receive(&mut self, name: T) {
        self.received.insert(name);
    }

    /// Those are all.
    pub(crate) fn end(&mut self) -> BTreeSet<T> {
        self.complete = true;
        std::mem::take(&mut self.received)
    }

    /// Whether one was received whole, ever.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }
}
