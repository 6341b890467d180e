use tracing::info;

/// Variables by which NVIDIA's device plugin can be told what is otherwise here, and what is done instead.
const UNSERVED: [(&str, &str); 17] = [
    ("CDI_DISABLE_HOOKS", "--hook says whether there is one"),
    ("CDI_FEATURE_FLAGS", "CDI specs are made without NVIDIA's tools"),
    ("CONTAINER_DRIVER_ROOT", "NVIDIA_DRIVER_ROOT says where the driver is"),
    ("DEVICE_DISCOVERY_STRATEGY", "GPUs are found by NVML"),
    ("DEVICE_ID_STRATEGY", "devices are named by UUID, since a number may be another device's after a restart"),
    ("DP_DISABLE_HEALTHCHECKS", "a GPU is unhealthy while it does not answer"),
    ("DP_ENABLE_HEALTHCHECKS", "a GPU is unhealthy while it does not answer"),
    ("DRIVER_ROOT_CTR_PATH", "NVIDIA_DRIVER_ROOT says where the driver is"),
    ("FAIL_ON_INIT_ERROR", "a node without GPUs is looked at again each second"),
    ("IMEX_CHANNEL_IDS", "IMEX channels are not served yet"),
    ("IMEX_REQUIRED", "IMEX channels are not served yet"),
    ("KUBELET_SOCKET", "--kubelet-dir says where the kubelet is"),
    ("MPS_ROOT", "MPS is not served yet"),
    ("NVIDIA_CDI_HOOK_PATH", "--hook says where it is"),
    ("NVIDIA_CTK_PATH", "--hook says where it is"),
    ("NVIDIA_DEV_ROOT", "--root says where the node's /dev is"),
    ("RESTART_ON_DEVICE_UNHEALTHY", "a device is healthy again as soon as it answers"),
];

/// Tells of what stands in the environment and changes nothing.
pub(super) fn tell() {
    for (name, instead) in
        UNSERVED.iter().filter(|(name, _)| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
    {
        info!(variable = name, instead, "a variable of NVIDIA's device plugin changes nothing here");
    }
}
