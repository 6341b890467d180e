//! The publisher's flow, as in `kubelet-plugin/src/publisher.rs`, with the API server a function call away.

use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::ResourceSlice;
use tessera_core::{Features, Inventory, Ledger, NodeIdentity, Pool, Seen, Slices, Write, dropped_features, reconcile};
use tessera_vocabulary::DriverName;

use crate::invariant::{self, Invariant, Violation};
use crate::server::{Change, Refused, Server};
use crate::setting::Plant;

/// The first and the longest pause after a failure, in milliseconds.
const PAUSES: (u64, u64) = (200, 30_000);
/// How often the slices are looked at without a reason, in milliseconds.
const CHECK: u64 = 5_000;
/// After so many rounds of one try something is wrong.
const ROUNDS: u32 = 10;

#[derive(Debug)]
pub(crate) struct Publisher {
    node: Option<NodeIdentity>,
    pub(crate) features: Features,
    slices: Option<BTreeMap<String, Seen>>,
    pause: u64,
    /// When the next try comes.
    pub(crate) due: u64,
    /// Whether it has told the agents before it that it publishes from now on.
    pub(crate) announced: bool,
}

/// Why nothing, or not all, was published.
#[derive(Debug)]
pub(crate) enum Failure {
    Refused(Refused),
    Violation(Violation),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<Violation> for Failure {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl Publisher {
    pub(crate) fn new() -> Self {
        Self { node: None, features: Features::default(), slices: None, pause: PAUSES.0, due: 0, announced: false }
    }

    /// Hears what the watch has to tell; says whether that was anything.
    pub(crate) fn hear(&mut self, server: &mut Server, agent: u32) -> bool {
        let Some(watch) = server.watches.get_mut(&agent).filter(|_| !server.down) else { return false };
        let heard = !watch.is_empty();
        for change in watch.drain(..) {
            self.take(change);
        }
        heard
    }

    fn take(&mut self, change: Change) {
        let named = |slice: &ResourceSlice| {
            let seen = Seen::from(slice.clone());
            (seen.name().to_owned(), seen)
        };
        match change {
            Change::Listed(list) => self.slices = Some(list.iter().map(|slice| named(slice)).collect()),
            Change::Applied(slice) => self.slices.get_or_insert_default().extend([named(&slice)]),
            Change::Deleted(slice) => {
                let slices = self.slices.get_or_insert_default();
                let (name, seen) = named(&slice);
                if slices.get(&name).is_some_and(|known| known.uid() == seen.uid()) {
                    slices.remove(&name);
                }
            }
        }
    }

    /// One try, and when the next one comes. Says whether all is as it should be.
    pub(crate) fn turn(&mut self, context: &mut Context<'_>, now: u64) -> Result<bool, Failure> {
        match self.publish(context) {
            Ok(done) => {
                self.due = now + CHECK;
                self.pause = PAUSES.0;
                Ok(done)
            }
            Err(failure) => {
                self.due = now + self.pause;
                self.pause = (self.pause * 2).min(PAUSES.1);
                Err(failure)
            }
        }
    }

    fn publish(&mut self, context: &mut Context<'_>) -> Result<bool, Failure> {
        let Some(inventory) = context.inventory else { return Ok(false) };
        if self.slices.is_none() {
            return Ok(false);
        }
        for _ in 0..ROUNDS {
            let pool = Pool { driver: context.driver.clone(), node: self.identity(context)? };
            let desired = Slices::new(&pool, inventory, self.features, context.ledger);
            let actual: Vec<_> = self.slices.iter().flat_map(BTreeMap::values).cloned().collect();
            let features = self.features;
            let mut writes: Vec<_> = reconcile(&desired, &actual.iter().collect::<Vec<_>>()).collect();
            if context.plant == Some(Plant::StaleGeneration) {
                writes.iter_mut().for_each(|write| make_stale(write, &actual));
            }
            generation_rises(&writes, &actual)?;
            for write in writes {
                if matches!(write, Write::Create(_)) && self.node.take().is_some() {
                    let node = self.identity(context)?;
                    if node != pool.node {
                        break;
                    }
                }
                self.write(&write, context)?;
                if self.features != features {
                    break;
                }
            }
            if self.features == features && self.node.as_ref() == Some(&pool.node) {
                return Ok(true);
            }
        }
        invariant::broken(Invariant::PublishingEnds, || format!("not done after {ROUNDS} rounds"))?;
        Ok(false)
    }

    fn write(&mut self, write: &Write, context: &mut Context<'_>) -> Result<(), Failure> {
        let name = write.metadata().name.clone().unwrap_or_default();
        let answer = context.server.write(write);
        invariant::view_is_no_mixture(context.server)?;
        let slices = self.slices.get_or_insert_default();
        match answer {
            Ok(Some(stored)) => {
                if let Some(sent) = write.slice() {
                    self.features = dropped_features(sent, &stored, self.features);
                }
                slices.insert(name, ResourceSlice::clone(&stored).into());
                Ok(())
            }
            Ok(None) => {
                slices.remove(&name);
                Ok(())
            }
            Err(Refused::NotFound) if matches!(write, Write::Delete(_)) => {
                slices.remove(&name);
                Ok(())
            }
            Err(refused) => Err(refused.into()),
        }
    }

    fn identity(&mut self, context: &Context<'_>) -> Result<NodeIdentity, Refused> {
        if let Some(node) = &self.node {
            return Ok(node.clone());
        }
        let node = context.server.node(context.node)?;
        Ok(self.node.insert(node).clone())
    }
}

/// What a publisher works with.
pub(crate) struct Context<'a> {
    pub(crate) server: &'a mut Server,
    pub(crate) inventory: Option<&'a Inventory>,
    pub(crate) ledger: &'a Ledger,
    pub(crate) driver: &'a DriverName,
    pub(crate) node: &'a str,
    pub(crate) plant: Option<Plant>,
}

/// The planted bug: the generation is the one that the slices had.
fn make_stale(write: &mut Write, actual: &[Seen]) {
    let had = actual.iter().map(Seen::generation).max();
    if let (Write::Update(slice) | Write::Create(slice), Some(had)) = (write, had) {
        slice.spec.pool.generation = had;
    }
}

/// More than one slice changes only with a new generation: a scheduler may see the writes one by one.
fn generation_rises(writes: &[Write], actual: &[Seen]) -> Result<(), Violation> {
    let highest = actual.iter().map(Seen::generation).max().unwrap_or(0);
    let generations: Vec<_> = writes
        .iter()
        .filter_map(|write| match write {
            Write::Update(slice) | Write::Create(slice) => Some(slice.spec.pool.generation),
            Write::Delete(_) => None,
        })
        .collect();
    if generations.len() > 1 && generations.iter().any(|generation| *generation <= highest) {
        return invariant::broken(Invariant::OneGeneration, || {
            format!("several slices change, and the generation stays: {highest}, {generations:?}")
        });
    }
    Ok(())
}
