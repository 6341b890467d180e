//! One lock for each thing that is being worked on.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// Locks by key. One that nobody has is not there.
#[derive(Debug)]
pub(crate) struct Locks<K> {
    held: Mutex<HashMap<K, Arc<tokio::sync::Mutex<()>>>>,
}

/// A lock that is held until this is dropped.
pub(crate) struct Held<'a, K: Clone + Eq + Hash> {
    locks: &'a Locks<K>,
    key: K,
    guard: Option<OwnedMutexGuard<()>>,
}

impl<K> Default for Locks<K> {
    fn default() -> Self {
        Self { held: Mutex::default() }
    }
}

impl<K: Clone + Eq + Hash> Locks<K> {
    /// Waits until nobody else holds the lock of this key.
    pub(crate) async fn hold(&self, key: K) -> Held<'_, K> {
        let lock = self.held().entry(key.clone()).or_default().clone();
        Held { locks: self, key, guard: Some(lock.lock_owned().await) }
    }

    /// Takes the lock of this key, if nobody holds it.
    pub(crate) fn try_hold(&self, key: K) -> Option<Held<'_, K>> {
        // Tried while nobody looks who has the lock, or its holder would leave it behind for this one.
        let guard = self.held().entry(key.clone()).or_default().clone().try_lock_owned().ok()?;
        Some(Held { locks: self, key, guard: Some(guard) })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<K, Arc<tokio::sync::Mutex<()>>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> Drop for Held<'_, K> {
    fn drop(&mut self) {
        self.guard.take();
        let mut held = self.locks.held();
        // Only the map has it: nobody waits.
        if held.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            held.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_at_a_time_and_nothing_is_left() {
        let locks = Locks::default();
        let first = locks.hold("a").await;
        let _other = locks.hold("b").await;
        let waiting = locks.hold("a");
        tokio::pin!(waiting);
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        assert!(locks.try_hold("a").is_none());
        drop(first);
        drop(waiting.await);
        assert!(locks.try_hold("a").is_some() && locks.try_hold("c").is_some());
        assert_eq!(locks.held().len(), 1);
    }
}
