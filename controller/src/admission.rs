//! The admission webhook as this program serves it: for its drivers, and with a word on expressions by whoever evaluates them.

use kube::Client;
use tessera_admission::{Drivers, FieldError, ServeError};
use tessera_policy::PartitionPolicySpec;
use tessera_rollout::expression_faults;
use tokio_util::sync::CancellationToken;

use crate::cli::Options;

/// Serves it until stopped, where it is to be served; else waits. Every replica does, whether it leads or not.
///
/// # Errors
/// When it cannot be served.
pub(crate) async fn serve(webhook: Option<Webhook>, client: Client, stop: CancellationToken) -> Result<(), ServeError> {
    match webhook {
        Some(Webhook(options)) => tessera_admission::serve(options, client, stop).await,
        None => std::future::pending().await,
    }
}

/// What is served.
pub(crate) struct Webhook(tessera_admission::Options);

impl Webhook {
    /// What the command line wants served.
    pub(crate) fn of(options: &Options) -> Option<Self> {
        let drivers = options.drivers.iter().map(|driver| (driver.family, driver.name.clone()));
        options.admission.options(Drivers::new(drivers), check_policy).map(Self)
    }

    pub(crate) fn metrics(&self) -> tessera_admission::Metrics {
        self.0.metrics.clone()
    }

    pub(crate) fn readiness(&self) -> tessera_admission::Readiness {
        self.0.readiness.clone()
    }
}

fn check_policy(spec: &PartitionPolicySpec) -> Vec<FieldError> {
    let told = |(number, fault): (usize, String)| FieldError {
        field: format!("spec.rules[{number}].devices.cel"),
        message: format!("it does not compile: {fault}"),
    };
    expression_faults(spec).into_iter().map(told).collect()
}
