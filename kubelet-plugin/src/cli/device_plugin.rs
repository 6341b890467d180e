use clap::Args;
use tessera_device_plugin::{AllocationPolicy, MigStrategy, Overrides, Way};

/// What NVIDIA's device plugin can be told by its flags and variables, under the same names. What stands here stands above the
/// config file, and a flag above its variable. Nothing of it concerns other families' devices.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Device plugin, of NVIDIA GPUs")]
pub struct DevicePluginOptions {
    /// What becomes of MIG devices: none (not offered), single (offered as nvidia.com/gpu; all of the node must have one
    /// profile) or mixed (nvidia.com/mig-<profile>) [default: none].
    #[arg(long, env = "MIG_STRATEGY", value_name = "STRATEGY")]
    pub mig_strategy: Option<MigStrategy>,
    /// How a container gets its devices: cdi-cri (CDI names in the CRI's field), cdi-annotations (CDI names in annotations),
    /// envvar or volume-mounts (both for NVIDIA's container runtime, which must be on the node) [default: cdi-cri].
    #[arg(long, env = "DEVICE_LIST_STRATEGY", value_delimiter = ',', value_name = "WAY")]
    pub device_list_strategy: Vec<Way>,
    /// Beside envvar and volume-mounts: name the device nodes to the kubelet too.
    #[arg(long, env = "PASS_DEVICE_SPECS", value_parser = truth, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub pass_device_specs: Option<bool>,
    /// What the keys of CDI's annotations begin with [default: cdi.k8s.io/].
    #[arg(long, env = "CDI_ANNOTATION_PREFIX", value_name = "PREFIX")]
    pub cdi_annotation_prefix: Option<String>,
    /// Whether pods that share GPUs, or have MIG devices of them, are spread over all (distributed) or fill one after the
    /// other (packed) [default: distributed].
    #[arg(long, env = "SHARED_DEVICES_ALLOCATION_POLICY", value_name = "POLICY")]
    pub shared_devices_allocation_policy: Option<AllocationPolicy>,
    /// Beside envvar and volume-mounts: containers get NVIDIA_GDRCOPY=enabled.
    #[arg(long, env = "GDRCOPY_ENABLED", value_parser = truth, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub gdrcopy_enabled: Option<bool>,
    /// Beside envvar and volume-mounts: containers get NVIDIA_GDS=enabled.
    #[arg(long, env = "GDS_ENABLED", value_parser = truth, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub gds_enabled: Option<bool>,
    /// Beside envvar and volume-mounts: containers get NVIDIA_MOFED=enabled.
    #[arg(long, env = "MOFED_ENABLED", value_parser = truth, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub mofed_enabled: Option<bool>,
}

impl DevicePluginOptions {
    /// What stands above the config file.
    pub fn overrides(&self) -> Overrides {
        let ways = &self.device_list_strategy;
        Overrides {
            mig_strategy: self.mig_strategy,
            allocation_policy: self.shared_devices_allocation_policy,
            ways: (!ways.is_empty()).then(|| ways.iter().copied().collect()),
            device_nodes: self.pass_device_specs,
            annotation_prefix: self.cdi_annotation_prefix.clone(),
            gdrcopy: self.gdrcopy_enabled,
            gds: self.gds_enabled,
            mofed: self.mofed_enabled,
        }
    }
}

/// As Go reads it, in which NVIDIA's device plugin is written; an empty variable says no there.
fn truth(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}
