//! Whatever is written can be read again and is the same, over all specs that are valid. With `TESSERA_CDI_COLLECT`
//! set, the files also go there, for the oracles in `hack/cdi-oracle` and `hack/cluster/parts/cdi-oracle`.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs;

use cdi::{
    ContainerEdits, Device, DeviceNode, DeviceType, Directory, FileName, Hook, HookName, IntelRdt, Kind, Mount,
    NetDevice, Spec, Version,
};
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;

/// The same as in `hack/testkit`, which this crate must not depend on.
fn collect(directory: &Directory, name: &FileName) {
    if let Some(target) = std::env::var_os("TESSERA_CDI_COLLECT") {
        static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let unique = format!("{}-{number}-{name}", std::process::id());
        fs::create_dir_all(&target).unwrap();
        fs::copy(directory.path().join(name.as_str()), std::path::Path::new(&target).join(unique)).unwrap();
    }
}

fn path() -> impl Strategy<Value = String> {
    "/[^\0]{0,20}"
}

fn env() -> impl Strategy<Value = Vec<String>> {
    vec("[A-Z_]{1,8}=[^\0]{0,12}", 0..3)
}

fn annotations() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map("([a-z]{1,5}\\.com/)?[A-Za-z]([A-Za-z._-]{0,5}[A-Za-z0-9])?", ".{0,12}", 0..3)
}

fn device_node() -> impl Strategy<Value = DeviceNode> {
    use DeviceType::{Block, Character, Fifo, Unbuffered};
    let kinds = prop::sample::select([Block, Character, Unbuffered, Fifo].as_slice());
    let ids =
        (any::<Option<u32>>(), any::<Option<u32>>(), of(0..=0o7777_u32), any::<Option<u32>>(), any::<Option<u32>>());
    (path(), of(path()), of(kinds), of("[rwm]{1,3}"), ids).prop_map(
        |(path, host_path, device_type, permissions, (major, minor, file_mode, uid, gid))| DeviceNode {
            path,
            host_path,
            device_type,
            major,
            minor,
            file_mode,
            permissions,
            uid,
            gid,
        },
    )
}

fn hook() -> impl Strategy<Value = Hook> {
    use HookName::{CreateContainer, CreateRuntime, Poststart, Poststop, Prestart, StartContainer};
    let names = [Prestart, CreateRuntime, CreateContainer, StartContainer, Poststart, Poststop];
    let name = prop::sample::select(names.to_vec());
    (name, path(), vec(".{0,8}", 0..3), env(), any::<Option<u32>>())
        .prop_map(|(hook_name, path, args, env, timeout)| Hook { hook_name, path, args, env, timeout })
}

fn mount() -> impl Strategy<Value = Mount> {
    (path(), path(), of("bind|tmpfs"), vec("ro|bind|nosuid", 0..3)).prop_map(
        |(host_path, container_path, mount_type, options)| Mount { host_path, container_path, mount_type, options },
    )
}

fn intel_rdt() -> impl Strategy<Value = IntelRdt> {
    (of("[a-z]{1,8}"), of("L3:0=[0-9a-f]"), of("MB:0=[0-9]{2}"), vec("L3:0=f", 0..2), any::<bool>()).prop_map(
        |(clos_id, l3_cache_schema, mem_bw_schema, schemata, enable_monitoring)| IntelRdt {
            clos_id,
            l3_cache_schema,
            mem_bw_schema,
            schemata,
            enable_monitoring,
        },
    )
}

fn edits() -> impl Strategy<Value = ContainerEdits> {
    // A map, so that neither side of a network device occurs twice.
    let net_devices = btree_map("[a-z]{1,6}", any::<()>(), 0..3).prop_map(|names| {
        let device = |(name, ()): (String, ())| NetDevice { host_interface_name: format!("h-{name}"), name };
        names.into_iter().map(device).collect()
    });
    (
        env(),
        vec(device_node(), 0..3),
        net_devices,
        vec(hook(), 0..2),
        vec(mount(), 0..3),
        of(intel_rdt()),
        vec(any::<u32>(), 0..3),
    )
        .prop_map(|(env, device_nodes, net_devices, hooks, mounts, intel_rdt, additional_gids)| ContainerEdits {
            env,
            device_nodes,
            net_devices,
            hooks,
            mounts,
            intel_rdt,
            additional_gids,
        })
}

fn spec() -> impl Strategy<Value = Spec> {
    let some_edits = edits().prop_filter("a device must change something", |edits| !edits.is_empty());
    let devices = btree_map("[A-Za-z0-9]([A-Za-z0-9_.:-]{0,12}[A-Za-z0-9])?", (annotations(), some_edits), 1..4);
    let name = "[A-Za-z]([A-Za-z0-9_.-]{0,12}[A-Za-z0-9])?";
    (name, name, annotations(), devices, edits()).prop_map(|(vendor, class, annotations, devices, container_edits)| {
        let device = |(name, (annotations, edits)): (String, (BTreeMap<_, _>, ContainerEdits))| Device {
            annotations,
            ..Device::new(name.parse().unwrap(), edits)
        };
        let spec = Spec::new(Kind::new(&vendor, &class).unwrap(), devices.into_iter().map(device).collect());
        Spec { annotations, container_edits, ..spec }.at_minimum_version()
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(spec in spec(), id in "[a-z0-9-]{1,36}") {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::open(root.path()).unwrap();
        let name = FileName::transient(&spec.kind, &id).unwrap();
        prop_assert_eq!(name.transient_id(&spec.kind), Some(id.as_str()));

        directory.write(&name, &spec).unwrap();
        collect(&directory, &name);
        prop_assert_eq!(directory.read(&name).unwrap(), Some(spec));
    }

    #[test]
    fn no_version_below_the_lowest_is_taken(spec in spec()) {
        for version in Version::ALL {
            let declared = Spec { cdi_version: version, ..spec.clone() };
            prop_assert_eq!(declared.validate().is_ok(), version >= spec.minimum_version());
        }
    }

    #[test]
    fn reading_never_panics(text in ".{0,200}") {
        let _ = serde_json::from_str::<Spec>(&text);
        let _ = text.parse::<cdi::QualifiedName>();
        let _ = text.parse::<FileName>();
    }
}
