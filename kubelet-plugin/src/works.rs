//! Work on the hardware, done and undone: on different accelerators side by side, on the same one after the other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tessera_core::Record;
use tessera_driver::{Outcome, Work, WorkError, Workbench};
use tessera_vocabulary::PciAddress;

use crate::hardware::Hardware;
use crate::locks::Locks;

/// The kubelet gives a call 45 s. What is busy for longer is told, and the kubelet calls again.
const DEADLINE: Duration = Duration::from_secs(30);

/// The way to change the hardware.
pub(crate) struct Works {
    bench: Arc<dyn Workbench>,
    hardware: Hardware,
    busy: Locks<PciAddress>,
}

impl Works {
    pub(crate) fn new(bench: Arc<dyn Workbench>, hardware: Hardware) -> Self {
        Self { bench, hardware, busy: Locks::default() }
    }

    /// Does all that a record says, and puts the outcomes into it.
    ///
    /// # Errors
    /// The first of them, and the record as it is then ([`Record::after_work`]): it must be kept before
    /// [`Works::undo`] undoes what is done or half done.
    pub(crate) async fn carry_out(&self, record: Record) -> Result<Record, (WorkError, Record)> {
        let deadline = Instant::now() + DEADLINE;
        let all = record.work().map(|(work, _)| self.begin(work.clone(), deadline));
        let results = join_all(all).await;
        let error = results.iter().find_map(|result| result.as_ref().err()).cloned();
        let record = record.after_work(results);
        match error {
            None => Ok(record),
            Some(error) => Err((error, record)),
        }
    }

    /// Undoes all of it, as far as it was done.
    ///
    /// # Errors
    /// The first of them; the others are undone all the same.
    pub(crate) async fn undo(&self, record: &Record) -> Result<(), WorkError> {
        let deadline = Instant::now() + DEADLINE;
        let all = record.work().map(|(work, outcome)| self.take_back(work.clone(), outcome.cloned(), deadline));
        join_all(all).await.into_iter().collect()
    }

    /// Does what no claim asks for.
    ///
    /// # Errors
    /// Then nothing of it is left, or what [`Works::undo_one`] removes.
    pub(crate) async fn do_one(&self, work: Work) -> Result<Outcome, WorkError> {
        self.begin(work, Instant::now() + DEADLINE).await
    }

    /// Undoes it, whatever came of it.
    ///
    /// # Errors
    /// Then it is worth another try.
    pub(crate) async fn undo_one(&self, work: Work) -> Result<(), WorkError> {
        self.take_back(work, None, Instant::now() + DEADLINE).await
    }

    async fn begin(&self, work: Work, deadline: Instant) -> Result<Outcome, WorkError> {
        let bench = Arc::clone(&self.bench);
        self.blocking(work.accelerator(), move || bench.carry_out(&work, deadline)).await
    }

    async fn take_back(&self, work: Work, outcome: Option<Outcome>, deadline: Instant) -> Result<(), WorkError> {
        let (bench, undone) = (Arc::clone(&self.bench), work.clone());
        let undoing = move || bench.undo(&work, outcome.as_ref(), deadline);
        self.blocking(undone.accelerator(), undoing).await?;
        self.hardware.undone(&undone);
        Ok(())
    }

    /// Whether all that was done is still so.
    ///
    /// # Errors
    /// When that cannot be known now.
    pub(crate) async fn hold(&self, record: &Record) -> Result<bool, WorkError> {
        let done: Vec<(Work, Outcome)> =
            record.work().filter_map(|(work, outcome)| Some((work.clone(), outcome?.clone()))).collect();
        let all = done.into_iter().map(|(work, outcome)| {
            let bench = Arc::clone(&self.bench);
            self.blocking(work.accelerator(), move || bench.holds(&work, &outcome))
        });
        let held: Vec<bool> = join_all(all).await.into_iter().collect::<Result<_, _>>()?;
        Ok(held.into_iter().all(|held| held))
    }

    /// The hardware's calls block, so they get a thread.
    async fn blocking<T: Send + 'static>(
        &self,
        accelerator: PciAddress,
        call: impl FnOnce() -> Result<T, WorkError> + Send + 'static,
    ) -> Result<T, WorkError> {
        let _busy = self.busy.hold(accelerator).await;
        let _working = self.hardware.working_on(accelerator);
        tokio::task::spawn_blocking(call).await.unwrap_or_else(|_| {
            let text = format!("work on {accelerator} failed within the agent; see its log");
            Err(WorkError { text, busy: false, gone: false, untouched: false })
        })
    }
}
