use super::File;
use super::search::Search;

/// Files that tell others about the driver: the loaders of EGL, Vulkan and OpenCL, OptiX, X. With where each may be, in
/// order; a container gets it where it was found.
const FILES: &[(&[&str], &str)] = &[
    (&["/etc/glvnd/egl_vendor.d", "/usr/share/glvnd/egl_vendor.d"], "10_nvidia.json"),
    (EGL_PLATFORMS, "09_nvidia_wayland2.json"),
    (EGL_PLATFORMS, "10_nvidia_wayland.json"),
    (EGL_PLATFORMS, "15_nvidia_gbm.json"),
    (EGL_PLATFORMS, "20_nvidia_xcb.json"),
    (EGL_PLATFORMS, "20_nvidia_xlib.json"),
    (&["/etc/vulkan/icd.d", "/usr/share/vulkan/icd.d"], "nvidia_icd.json"),
    (&["/etc/vulkan/icd.d", "/usr/share/vulkan/icd.d"], "nvidia_layers.json"),
    (&["/etc/vulkan/implicit_layer.d", "/usr/share/vulkan/implicit_layer.d"], "nvidia_layers.json"),
    (&["/etc/OpenCL/vendors"], "nvidia.icd"),
    (&["/usr/share/nvidia"], "nvoptix.bin"),
    (X_CONFIGURATION, "10-nvidia.conf"),
    (X_CONFIGURATION, "nvidia-drm-outputclass.conf"),
];

const EGL_PLATFORMS: &[&str] = &["/etc/egl/egl_external_platform.d", "/usr/share/egl/egl_external_platform.d"];
const X_CONFIGURATION: &[&str] = &["/etc/X11/xorg.conf.d", "/usr/share/X11/xorg.conf.d"];

pub(super) fn find(search: &mut Search<'_>) -> Vec<File> {
    FILES.iter().filter_map(|(directories, name)| search.first_file(directories, name, None)).collect()
}
