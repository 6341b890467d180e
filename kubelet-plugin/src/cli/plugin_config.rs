//! Where the config of the device plugin comes from.

use std::path::PathBuf;

use clap::Args;
use tessera_device_plugin::{Choice, Fallbacks};

/// A config file of NVIDIA's device plugin, or one of several. All of it applies while the agent runs: a file or a label that
/// changes needs no restart, and pods keep what they have.
#[derive(Clone, Debug, Args)]
pub struct PluginConfigOptions {
    /// Config file of NVIDIA's device plugin, version v1: MIG strategy, names, time-slicing, ways to containers. What changes
    /// nothing here is said in the log, with what is done instead.
    ///
    /// It is looked at each --rescan second. One that cannot be followed is told, by an event of the Node too, and what was in
    /// force before stays; where there is none, nothing is offered until it can.
    #[arg(long, env = "CONFIG_FILE", value_name = "FILE", conflicts_with = "config_file_srcdir")]
    pub config_file: Option<PathBuf>,
    /// Directory with several such files, as a ConfigMap is mounted, of which a label of this node names the one to follow. Needs
    /// the rights of config-by-label.yaml.
    #[arg(long, env = "CONFIG_FILE_SRCDIR", value_name = "DIR")]
    pub config_file_srcdir: Option<PathBuf>,
    /// The label that names the file.
    #[arg(long, env = "NODE_LABEL", default_value = "nvidia.com/device-plugin.config", value_name = "LABEL")]
    pub node_label: String,
    /// The file of a node without the label.
    #[arg(long, env = "DEFAULT_CONFIG", value_name = "NAME")]
    pub default_config: Option<String>,
    /// What is tried, one after the other, where there is neither label nor default: named (the file "default"), single (the
    /// only file), empty (no file).
    #[arg(long, env = "FALLBACK_STRATEGIES", default_value_t, hide_default_value = true, value_name = "STRATEGIES")]
    pub fallback_strategies: Fallbacks,
}

impl PluginConfigOptions {
    /// How a file is chosen from a directory.
    pub fn choice(&self) -> Choice {
        Choice { default: self.default_config.clone(), fallbacks: self.fallback_strategies.clone() }
    }
}
