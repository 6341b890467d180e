//! The life of one driver on the node: waiting for its hardware, served, and tried again after a failure. Whatever happens
//! to it happens to no other.

use std::sync::Arc;
use std::time::Duration;

use tessera_driver::Backend;
use tessera_driver::tpu::NodeLabels;
use tessera_vocabulary::DriverName;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::backends::Row;
use crate::cli::{HardwareOptions, RunOptions};
use crate::directories::Directories;
use crate::errors::told;
use crate::features::Labeller;
use crate::node::Node;
use crate::notices::{Notice, Notices};
use crate::readiness::{Readiness, Stage};
use crate::serving::{self, Sockets};
use crate::sockets::Socket;
use crate::store::Store;

/// After a failure, a driver is served anew after this pause: what failed is most often a file in the way.
const PAUSE: Duration = Duration::from_secs(5);

/// A driver that is to be served.
pub(crate) struct Driver {
    row: &'static Row,
    name: DriverName,
    /// Bound before anything else of the agent was done.
    sockets: Option<Sockets>,
    wanted: bool,
}

impl Driver {
    /// Binds its socket at once, if it is wanted: a kubelet that knows an earlier agent's socket waits for an answer as
    /// soon as it can connect, while a refused connection costs a pod more than a minute.
    pub(crate) fn begin(
        row: &'static Row,
        hardware: &HardwareOptions,
        options: &RunOptions,
        readiness: &Readiness,
    ) -> Self {
        let name = row.name(hardware);
        let wanted = is_wanted(&*row.open(hardware, &NodeLabels::default()).backend, &name, options);
        readiness.set(&name, if wanted { Stage::Starting } else { Stage::Standby });
        // What fails now fails again when it is served, and is told then.
        let sockets = wanted.then(|| sockets(&name, options).ok()).flatten();
        Self { row, name, sockets, wanted }
    }

    /// Its name, if it is served from the start.
    pub(crate) fn wanted(&self) -> Option<&DriverName> {
        self.wanted.then_some(&self.name)
    }

    /// Serves it until stopped, whenever its hardware is there.
    ///
    /// # Errors
    /// What keeps it from being served, if no other driver of the node is: then it is better to be started again than to
    /// go on for nothing.
    pub(crate) async fn run(mut self, node: Arc<Node>, stop: CancellationToken) -> anyhow::Result<()> {
        if !self.wanted {
            let waiting = async {
                tokio::select! {
                    () = self.wait_for_hardware(&node) => {}
                    () = self.without_labels(&node) => {}
                }
            };
            if stop.run_until_cancelled(waiting).await.is_none() {
                return Ok(());
            }
        }
        let mut last = String::new();
        loop {
            node.readiness.set(&self.name, Stage::Starting);
            let Err(error) = self.serve(&node, &stop).await else { return Ok(()) };
            let reason = told(&error);
            node.readiness.set(&self.name, Stage::Failed { reason: reason.clone() });
            if !node.readiness.is_other_alive(&self.name) {
                return Err(error);
            }
            if reason != last {
                self.notices(&node).tell(Notice::NotServed { reason: reason.clone() });
                last = reason;
            }
            if stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                return Ok(());
            }
        }
    }

    async fn serve(&mut self, node: &Arc<Node>, stop: &CancellationToken) -> anyhow::Result<()> {
        let sockets = match self.sockets.take() {
            Some(sockets) => sockets,
            None => sockets(&self.name, &node.options)?,
        };
        serving::serve(self.row, sockets, node, stop).await
    }

    /// Takes away what earlier agents told pods by labels of the node, and then waits for ever.
    async fn without_labels(&self, node: &Node) {
        if let Some(labeller) = Labeller::new(self.row, node, || self.notices(node)) {
            labeller.clear().await;
        }
        std::future::pending::<()>().await;
    }

    fn notices(&self, node: &Node) -> Notices {
        Notices::new(self.name.clone(), node.metrics.driver(&self.name), node.events.clone())
    }

    /// Looks for the hardware each `--rescan` second, and whenever the kernel tells of a device. Costs a walk over the PCI
    /// bus; nothing of a vendor's driver is loaded.
    async fn wait_for_hardware(&self, node: &Node) {
        info!(driver = %self.name, "none of its hardware is on this node; it is served once there is");
        let mut uevents = node.uevents.clone();
        let mut ways = self.row.open(&node.hardware, &node.labels);
        loop {
            tokio::select! {
                () = tokio::time::sleep(node.options.rescan) => {}
                Ok(()) = uevents.changed() => {}
            }
            let (name, options) = (self.name.clone(), node.options.clone());
            let look = move || (is_wanted(&*ways.backend, &name, &options), ways);
            // A thread of its own: what hardware is asked may block.
            let wanted = match tokio::task::spawn_blocking(look).await {
                Ok((wanted, looked)) => {
                    ways = looked;
                    wanted
                }
                Err(error) => {
                    warn!(driver = %self.name, %error, "a look for its hardware failed");
                    ways = self.row.open(&node.hardware, &node.labels);
                    false
                }
            };
            if wanted {
                return info!(driver = %self.name, "its hardware is there");
            }
        }
    }
}

/// Whether there is anything for it to do: hardware, or claims that are to be undone.
fn is_wanted(backend: &dyn Backend, name: &DriverName, options: &RunOptions) -> bool {
    backend.is_present() || Store::has_records(options.state_dir.join(name.as_str()))
}

fn sockets(name: &DriverName, options: &RunOptions) -> anyhow::Result<Sockets> {
    let directories = Directories::of(name, &options.kubelet_dir)?;
    let instance = options.instance.as_deref();
    Ok(Sockets {
        dra: Socket::bind(directories.dra_socket(instance))?,
        registration: directories.registration_socket(name.as_str(), instance),
    })
}
