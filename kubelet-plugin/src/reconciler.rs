//! Once a minute, the ledger is compared with the files, with the kubelet's pods and with the API server: what is owned and
//! damaged is repaired, what nobody owns any more is removed. Nobody else does: the kubelet repeats nothing for pods that
//! run, and forgets claims when it loses its own state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, stream};
use kube::Client;
use tessera_core::{ClaimRef, ClaimUid, Doubts, Identity, InUse, stands};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::api::{self, ClaimReadError};
use crate::claims::Claims;
use crate::notices::{Notice, Notices};
use crate::rounds::{Round, Rounds};

/// A record that could not be read spares its CDI spec for so many rounds in which the kubelet answers.
const SPARED_ROUNDS: u32 = 2;
/// So many claims are asked for at once.
const AT_ONCE: usize = 8;

/// Compares the ledger of one driver again and again.
pub(crate) struct Reconciler {
    pub(crate) identity: Identity,
    pub(crate) claims: Arc<Claims>,
    pub(crate) client: Client,
    pub(crate) rounds: Rounds,
    pub(crate) notices: Notices,
}

impl Reconciler {
    /// Works until stopped, once in each round of the node. What fails is told and tried again in the next.
    ///
    /// A listing may be older than what it is compared with, by as long as a round takes: nothing is done that one
    /// listing alone asks for.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut rounds = self.rounds.clone();
        rounds.mark_changed();
        let mut doubts = Doubts::default();
        let (mut swept, mut compared) = (true, 0);
        while let Some(Ok(())) = stop.run_until_cancelled(rounds.changed()).await {
            let Some(round) = rounds.borrow_and_update().clone() else { continue };
            // The claims were swept when they were taken over.
            if !std::mem::take(&mut swept) {
                let claims = Arc::clone(&self.claims);
                // A panic in it is in the log, and must not end the agent.
                let _ = tokio::task::spawn_blocking(move || claims.sweep(compared < SPARED_ROUNDS)).await;
            }
            if let Round { pods: Some(pods) } = &*round {
                let in_use = pods.in_use(&self.identity.driver);
                if stop.run_until_cancelled(self.compare(&in_use, &mut doubts)).await.is_none() {
                    return;
                }
                compared += 1;
            }
        }
    }

    /// Compares the ledger with the kubelet's pods and the API server.
    async fn compare(&self, in_use: &InUse, doubts: &mut Doubts) {
        let ledger = self.claims.ledger();
        let unused = ledger.records().filter(|record| !in_use.covers(record)).map(|record| record.claim.clone());
        let asked = unused.map(|claim| async move { self.is_gone(&claim).await.then_some(claim) });
        let gone: Vec<_> = stream::iter(asked.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).collect().await;
        let gone: BTreeMap<_, _> = gone.into_iter().flatten().map(|claim| (claim.uid.clone(), claim)).collect();
        let orphans = doubts.orphans(gone.keys().cloned().collect());
        for (uid, claim) in &gone {
            let undone = if orphans.contains(uid) {
                self.claims.undo_orphan(claim).await
            } else {
                self.claims.doubt(claim).map(|()| false)
            };
            match undone {
                Ok(true) => self.notices.tell(Notice::OrphanUndone { claim: claim.clone() }),
                Ok(false) => {}
                Err(error) => warn!(%claim, %error, "an orphaned claim cannot be undone"),
            }
        }
        let recordless = in_use.without_record(&ledger);
        let certain = doubts.recordless(recordless.clone());
        let unread = self.claims.unread();
        for full_name in recordless {
            if self.rebuild(&full_name, certain.contains(&full_name), &unread).await {
                doubts.made_anew(&full_name);
            }
        }
    }

    /// Whether the API server says that the claim is no longer this node's.
    async fn is_gone(&self, claim: &ClaimRef) -> bool {
        match api::claim(&self.client, &claim.namespace, &claim.name).await {
            Ok(object) => !stands(claim, Some(&object), &self.identity),
            Err(ClaimReadError::Deleted(_)) => true,
            // Nothing is known of it.
            Err(_) => false,
        }
    }

    /// Makes the record of a claim anew that pods use. At once if its record could not be read; else only when it is `certain`
    /// that the claim is not just on its way, since the kubelet lists pods for a moment after it has undone their claims.
    /// Says whether it did.
    async fn rebuild(&self, full_name: &(String, String), certain: bool, unread: &BTreeSet<ClaimUid>) -> bool {
        let (namespace, name) = full_name;
        let Ok(object) = api::claim(&self.client, namespace, name).await else { return false };
        let Some(uid) = object.uid().and_then(|uid| uid.parse().ok()) else { return false };
        let claim = ClaimRef { namespace: namespace.clone(), name: name.clone(), uid };
        if !(certain || unread.contains(&claim.uid)) || !stands(&claim, Some(&object), &self.identity) {
            return false;
        }
        match self.claims.prepare(&claim).await {
            Ok(_) => {
                self.notices.tell(Notice::RecordRebuilt { claim });
                true
            }
            Err(error) => {
                warn!(%claim, uid = %claim.uid, %error, "the record of a claim that a pod uses is lost");
                false
            }
        }
    }
}
