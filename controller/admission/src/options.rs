use std::net::SocketAddr;

use clap::Args;

use crate::drivers::Drivers;
use crate::metrics::Metrics;
use crate::policies::CheckPolicy;
use crate::readiness::Readiness;

/// What the command line says of the webhook.
#[derive(Clone, Debug, Args)]
pub struct Flags {
    /// Address on which the admission webhook is served, by HTTPS [default: it is not served].
    #[arg(long, env = "TESSERA_ADMISSION_ADDRESS", value_name = "ADDRESS:PORT")]
    pub admission_address: Option<SocketAddr>,
    /// Namespace of the webhook's Service and Secret.
    #[arg(long, env = "TESSERA_ADMISSION_NAMESPACE", default_value = "tessera-system", value_name = "NAMESPACE")]
    pub admission_namespace: String,
    /// Service by which the API server reaches the webhook.
    #[arg(long, env = "TESSERA_ADMISSION_SERVICE", default_value = "tessera-admission", value_name = "NAME")]
    pub admission_service: String,
    /// Secret that holds the webhook's certificates. It has to be there; what it holds is made and renewed.
    #[arg(long, env = "TESSERA_ADMISSION_SECRET", default_value = "tessera-admission", value_name = "NAME")]
    pub admission_secret: String,
    /// ValidatingWebhookConfiguration that is told whom to trust.
    #[arg(long, env = "TESSERA_ADMISSION_CONFIGURATION", default_value = "tessera-admission", value_name = "NAME")]
    pub admission_configuration: String,
}

impl Flags {
    /// What is to be served, if anything is.
    pub fn options(&self, drivers: Drivers, check_policy: CheckPolicy) -> Option<Options> {
        let Self { admission_namespace: namespace, admission_service: service, .. } = self;
        Some(Options {
            address: self.admission_address?,
            namespace: namespace.clone(),
            // The first is the one that the API server looks for.
            names: vec![format!("{service}.{namespace}.svc"), format!("{service}.{namespace}.svc.cluster.local")],
            secret: self.admission_secret.clone(),
            configuration: self.admission_configuration.clone(),
            drivers,
            check_policy,
            metrics: Metrics::default(),
            readiness: Readiness::default(),
        })
    }
}

/// What [`serve`](crate::serve()) serves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where.
    pub address: SocketAddr,
    /// Where the Secret is.
    pub namespace: String,
    /// Under which names, or addresses, the API server may call.
    pub names: Vec<String>,
    /// The Secret with the certificates.
    pub secret: String,
    /// The ValidatingWebhookConfiguration. All of its webhooks are ours.
    pub configuration: String,
    /// Whose configs are ours to judge.
    pub drivers: Drivers,
    /// What else is to be said of policies.
    pub check_policy: CheckPolicy,
    /// What is counted.
    pub metrics: Metrics,
    /// Whether it can be called.
    pub readiness: Readiness,
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    fn options(words: &[&str]) -> Option<Options> {
        let command = Flags::augment_args(Command::new("controller").no_binary_name(true));
        let flags = Flags::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap();
        flags.options(Drivers::default(), |_| Vec::new())
    }

    #[test]
    fn it_is_served_where_an_address_is_given_under_the_names_of_its_service() {
        assert!(options(&[]).is_none());
        let served = options(&["--admission-address=[::]:9443", "--admission-namespace=gpus"]).unwrap();
        assert_eq!(served.address.port(), 9443);
        assert_eq!(served.names, ["tessera-admission.gpus.svc", "tessera-admission.gpus.svc.cluster.local"]);
        assert_eq!((&*served.secret, &*served.configuration), ("tessera-admission", "tessera-admission"));
    }
}
