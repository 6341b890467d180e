//! Where the labels of a node's GPUs go.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// The labels of NVIDIA's GPU feature discovery.
#[derive(Clone, Debug, Args)]
pub struct FeatureOptions {
    /// How the labels of NVIDIA's GPU feature discovery (nvidia.com/gpu.product and the like) get onto this node.
    ///
    /// They are written when they change, and those that no longer hold are taken away; others' are never touched. "off" leaves
    /// what was written.
    #[arg(long, env = "TESSERA_FEATURE_LABELS", value_enum, default_value_t = LabelsGo::Off, value_name = "WAY")]
    pub feature_labels: LabelsGo,
    /// The file of node-feature-discovery's directory features.d that --feature-labels file writes.
    #[arg(
        long,
        env = "GFD_OUTPUT_FILE",
        default_value = "/etc/kubernetes/node-feature-discovery/features.d/gfd",
        value_name = "FILE"
    )]
    pub features_file: PathBuf,
    /// The node's file that says what the machine is called, for the label nvidia.com/gpu.machine.
    #[arg(long, env = "GFD_MACHINE_TYPE_FILE", default_value = "/sys/class/dmi/id/product_name", value_name = "FILE")]
    pub machine_type_file: PathBuf,
    /// Write no label nvidia.com/gfd.timestamp, which says when the labels last changed.
    #[arg(long, env = "GFD_NO_TIMESTAMP")]
    pub no_timestamp: bool,
}

/// How labels get onto a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LabelsGo {
    /// Not at all.
    Off,
    /// By node-feature-discovery's worker, which reads a file on this node.
    File,
    /// By node-feature-discovery's master, which reads an object of the agent's namespace. Needs the rights of
    /// feature-labels-nfd.yaml.
    NodeFeature,
    /// By a patch of the Node. Needs the rights of feature-labels-node.yaml, and its policy keeps an agent to its own node.
    Node,
}
