//! The command line. Every flag can be given by the environment too, for the Deployment's sake.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tessera_admission::Family;
use tessera_vocabulary::{DriverName, InvalidDriverName};

/// Carries out partition policies, offers fabric domains that span nodes, keeps DeviceClasses and clears up what nodes that are gone left behind.
#[derive(Clone, Debug, Parser)]
#[command(version, about, long_about = None)]
pub struct Options {
    /// Kubeconfig file [default: $KUBECONFIG, else the pod's service account].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the lease by which replicas agree who leads.
    #[arg(long, env = "POD_NAMESPACE", default_value = "tessera-system", value_name = "NAMESPACE")]
    pub namespace: String,
    /// Name of that lease.
    #[arg(long, env = "TESSERA_LEASE", default_value = "tessera-controller", value_name = "NAME")]
    pub lease: String,
    /// Seconds after which a leader that was not heard of is replaced. It ends itself after two thirds of them.
    #[arg(long, env = "TESSERA_LEASE_SECONDS", default_value = "15", value_name = "SECONDS", value_parser = whole_seconds)]
    pub lease_seconds: Duration,
    /// What this replica is called in the lease; something random is put behind it.
    #[arg(long, env = "POD_NAME", default_value = "tessera-controller", value_name = "NAME")]
    pub identity: String,
    /// The DRA drivers that are Tessera's, each by its family (nvidia or tpu) and its name: nvidia=gpu.nvidia.com.
    /// ResourceSlices of theirs whose Node is gone are removed, and configs that are for them are judged.
    #[arg(long, env = "TESSERA_DRIVER_NAMES", value_delimiter = ',', value_name = "FAMILY=NAME")]
    pub drivers: Vec<ServedDriver>,
    /// Whether fabric domains that span nodes are offered, as devices of the drivers named above: nodes are labelled with the
    /// domain that they lie in, and domains whose devices all have the layout "domain" get a ResourceSlice of their own.
    #[arg(long, env = "TESSERA_DOMAINS", action = clap::ArgAction::Set, default_value_t = true, value_name = "BOOL")]
    pub domains: bool,
    /// Seconds between two looks for slices whose Node is gone. They are removed when two of them, a minute or more apart, have
    /// found them.
    #[arg(long, env = "TESSERA_LEFTOVERS", default_value = "300", value_name = "SECONDS", value_parser = whole_seconds)]
    pub leftovers: Duration,
    /// DeviceClasses that are kept as they stand in this file, as YAML documents: one that is changed or deleted is put right.
    #[arg(long, env = "TESSERA_DEVICE_CLASSES", value_name = "FILE")]
    pub device_classes: Option<PathBuf>,
    /// The admission webhook, which every replica serves.
    #[command(flatten)]
    pub admission: tessera_admission::Flags,
    /// Address that serves /healthz, /readyz and /metrics; port 0 takes a free one, "off" serves none.
    #[arg(long, env = "TESSERA_HTTP", default_value = "127.0.0.1:9465", value_name = "ADDRESS", value_parser = http_address)]
    pub http: Http,
    /// What to log: a level (error, warn, info, debug, trace) or tracing's filter syntax.
    #[arg(long, env = "TESSERA_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// How to log.
    #[arg(long, env = "TESSERA_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

impl Options {
    /// What the drivers are called.
    pub(crate) fn driver_names(&self) -> Vec<DriverName> {
        self.drivers.iter().map(|driver| driver.name.clone()).collect()
    }
}

/// A DRA driver of Tessera's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServedDriver {
    /// Whose accelerators it serves.
    pub family: Family,
    /// What it is called.
    pub name: DriverName,
}

impl FromStr for ServedDriver {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let family = |word: &str| Family::ALL.into_iter().find(|family| family.word() == word);
        let known = || Family::ALL.map(Family::word).join(" or ");
        let (word, name) =
            text.split_once('=').ok_or_else(|| format!("must be a family and a name, {}=<name>", known()))?;
        let family = family(word).ok_or_else(|| format!("{word:?} is no family; it must be {}", known()))?;
        Ok(Self { family, name: name.parse().map_err(|error: InvalidDriverName| error.to_string())? })
    }
}

/// Whether and where to serve HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// Nowhere.
    Off,
    /// At this address; with port 0 at a free one.
    At(SocketAddr),
}

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

fn http_address(text: &str) -> Result<Http, String> {
    if text == "off" {
        return Ok(Http::Off);
    }
    text.parse()
        .map(Http::At)
        .map_err(|_| "must be an IP address and a port, such as 127.0.0.1:9465, or \"off\"".to_owned())
}

fn whole_seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u32>() {
        Ok(seconds) if (1..=86_400).contains(&seconds) => Ok(Duration::from_secs(seconds.into())),
        _ => Err("must be a whole number of seconds, 1 to 86400".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_told_by_its_family_and_its_name() {
        let read = |text: &str| text.parse::<ServedDriver>();
        let ours = ServedDriver { family: Family::Tpu, name: "tpu.example.com".parse().unwrap() };
        assert_eq!(read("tpu=tpu.example.com"), Ok(ours));
        for (text, problem) in [
            ("gpu.nvidia.com", "must be a family and a name"),
            ("amd=gpu.amd.com", "\"amd\" is no family; it must be nvidia or tpu"),
            ("nvidia=GPU!", "GPU!"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
