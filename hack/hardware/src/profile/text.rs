//! From the text of a profile to a checked [`Profile`].

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use super::{Profile, ProfileError};
use crate::bus::{Function, Tpu};
use crate::hardware::{Bridge, ComputeMode, Driver, Fabric, Gpu, NumaNode, Switch};
use crate::mig::Mig;
use crate::model::Model;
use crate::pci::{PciAddress, PciRoot};
use crate::render::MAX_MINOR;

/// Finds the file name and the text of a model.
type Models<'a> = &'a dyn Fn(&str) -> Option<(String, String)>;

/// A profile as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileText {
    product: Option<String>,
    driver: Option<Driver>,
    #[serde(default)]
    numa_node: Vec<NumaNode>,
    #[serde(default)]
    switch: Vec<Switch>,
    #[serde(default)]
    bridge: Vec<Bridge>,
    fabric: Option<Fabric>,
    #[serde(default)]
    gpu: Vec<GpuText>,
    #[serde(default)]
    tpu: Vec<Spanned<Tpu>>,
    #[serde(default)]
    function: Vec<Function>,
    #[serde(default)]
    instance: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GpuText {
    model: Spanned<String>,
    pci: Spanned<PciAddress>,
    root: PciRoot,
    bridges: Vec<PciAddress>,
    numa_node: Spanned<i32>,
    memory_numa_node: Option<u32>,
    module_id: Option<u32>,
    serial: Option<String>,
    uuid: Spanned<String>,
}

pub(super) fn profile(name: &str, file: &str, text: &str, models: Models<'_>) -> Result<Profile, Box<ProfileError>> {
    let parsed: ProfileText = toml::from_str(text).map_err(|error| ProfileError::parse(file, text, &error))?;
    check(file, text, &parsed)?;
    let mut loaded = BTreeMap::new();
    for gpu in &parsed.gpu {
        let name = gpu.model.get_ref();
        if !loaded.contains_key(name) {
            let (model_file, model_text) = models(name).ok_or_else(|| {
                ProfileError::at(file, text, gpu.model.span(), "no such model; allowed: the name of a file in models/")
            })?;
            loaded.insert(name.clone(), model(&model_file, &model_text)?);
        }
    }
    let mut gpus: Vec<Gpu> = parsed.gpu.into_iter().map(|gpu| boot(gpu, parsed.fabric.as_ref())).collect();
    gpus.sort_by_key(|gpu| gpu.pci);
    for (minor, gpu) in (0..).zip(&mut gpus) {
        gpu.minor = minor;
    }
    let mut tpus: Vec<Tpu> = parsed.tpu.into_iter().map(Spanned::into_inner).collect();
    tpus.sort_by_key(|tpu| tpu.pci);
    Ok(Profile {
        name: name.to_owned(),
        product: parsed.product,
        driver: parsed.driver.unwrap_or(Driver::NONE),
        numa_nodes: parsed.numa_node,
        switches: parsed.switch,
        bridges: parsed.bridge,
        fabric: parsed.fabric,
        models: loaded,
        gpus,
        tpus,
        functions: parsed.function,
        instance: parsed.instance,
    })
}

fn model(file: &str, text: &str) -> Result<Model, Box<ProfileError>> {
    toml::from_str(text).map_err(|error| ProfileError::parse(file, text, &error))
}

fn boot(gpu: GpuText, fabric: Option<&Fabric>) -> Gpu {
    Gpu {
        model: gpu.model.into_inner(),
        pci: gpu.pci.into_inner(),
        root: gpu.root,
        bridges: gpu.bridges,
        numa_node: gpu.numa_node.into_inner(),
        memory_numa_node: gpu.memory_numa_node,
        module_id: gpu.module_id,
        serial: gpu.serial,
        uuid: gpu.uuid.into_inner(),
        minor: 0,
        fabric: fabric.cloned(),
        links_down: Default::default(),
        present: true,
        lost: false,
        persistence_mode: false,
        compute_mode: ComputeMode::Default,
        mig: Mig::default(),
        processes: Vec::new(),
    }
}

/// What one field cannot see: that fields agree with each other.
fn check(file: &str, text: &str, profile: &ProfileText) -> Result<(), Box<ProfileError>> {
    let nodes: Vec<i32> = profile.numa_node.iter().map(|node| node.node).collect();
    for (position, gpu) in profile.gpu.iter().enumerate() {
        let earlier = &profile.gpu[..position];
        if earlier.iter().any(|other| other.pci.get_ref() == gpu.pci.get_ref()) {
            return Err(ProfileError::at(file, text, gpu.pci.span(), "two GPUs sit here; allowed: one GPU an address"));
        }
        if earlier.iter().any(|other| other.uuid.get_ref() == gpu.uuid.get_ref()) {
            return Err(ProfileError::at(
                file,
                text,
                gpu.uuid.span(),
                "two GPUs have it; allowed: a UUID for each GPU",
            ));
        }
        if !is_gpu_uuid(gpu.uuid.get_ref()) {
            let problem = "no GPU UUID; allowed: GPU- and 8-4-4-4-12 lower-case hexadecimal digits";
            return Err(ProfileError::at(file, text, gpu.uuid.span(), problem));
        }
        let node = *gpu.numa_node.get_ref();
        if node != -1 && !nodes.contains(&node) {
            let problem = format!("no such [[numa_node]]; allowed: -1 (unknown) or one of {nodes:?}");
            return Err(ProfileError::at(file, text, gpu.numa_node.span(), problem));
        }
        if position > MAX_MINOR as usize {
            let problem = format!("too many GPUs; allowed: {}", MAX_MINOR + 1);
            return Err(ProfileError::at(file, text, gpu.pci.span(), problem));
        }
        if profile.driver.is_none() {
            return Err(ProfileError::at(file, text, gpu.pci.span(), "a GPU needs a [driver]"));
        }
    }
    for (position, tpu) in profile.tpu.iter().enumerate() {
        let one = tpu.get_ref();
        let alike =
            |other: &Tpu| other.pci == one.pci || (other.number, other.is_vfio()) == (one.number, one.is_vfio());
        if profile.tpu[..position].iter().any(|other| alike(other.get_ref())) {
            let problem = "two TPUs have this address or number; allowed: one of each for each TPU";
            return Err(ProfileError::at(file, text, tpu.span(), problem));
        }
        if position >= MAX_TPUS {
            return Err(ProfileError::at(file, text, tpu.span(), format!("too many TPUs; allowed: {MAX_TPUS}")));
        }
    }
    Ok(())
}

/// As many as a host has at most, and as there are terminals for.
const MAX_TPUS: usize = 8;

fn is_gpu_uuid(text: &str) -> bool {
    let groups: Option<Vec<&str>> = text.strip_prefix("GPU-").map(|uuid| uuid.split('-').collect());
    let hexadecimal = |group: &&str| group.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    groups.is_some_and(|groups| {
        groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]) && groups.iter().all(hexadecimal)
    })
}
