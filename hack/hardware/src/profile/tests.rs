//! What a profile may hold, and what an author is told about mistakes.

use super::*;

/// Reads a profile made of the built-in one with one text replaced.
fn with(replace: &str, by: &str) -> Result<Profile, Box<ProfileError>> {
    let (_, text) = builtin::PROFILES.iter().find(|(name, _)| *name == "mixed").unwrap();
    assert!(text.contains(replace), "{replace}");
    text::profile("mixed", "mixed.toml", &text.replacen(replace, by, 1), &builtin::model)
}

#[test]
fn every_profile_is_sound() {
    for name in Profile::names() {
        let profile = Profile::named(name).unwrap();
        assert!(profile.gpus.is_sorted_by_key(|gpu| gpu.pci), "{name}");
        for gpu in &profile.gpus {
            let model = &profile.models[&gpu.model];
            let linked =
                profile.switches.iter().filter(|switch| switch.domain.is_none_or(|domain| domain == gpu.pci.domain));
            let bridges = profile.bridges.iter().filter(|bridge| bridge.between.contains(&gpu.pci));
            let links = linked.map(|switch| switch.links).chain(bridges.map(|bridge| bridge.links)).sum::<u32>();
            // The machine with boards of two generations has no switches.
            assert!(links == model.nvlinks || name == "a100-h100", "{name}: each link ends somewhere");
            assert_eq!(model.pci.vendor, 0x10de);
            assert!(model.memory.reserved_mib < model.memory.total_mib);
        }
    }
    let counts = Profile::names().map(|name| (name, Profile::named(name).unwrap().gpus.len()));
    assert_eq!(
        counts.collect::<Vec<_>>(),
        [
            ("a100-h100", 2),
            ("dgx-a100", 8),
            ("dgx-h100", 8),
            ("gb200", 4),
            ("h100x16", 16),
            ("h200", 8),
            ("hgx-a100-4", 4),
            ("hgx-b200", 8),
            ("mixed", 3),
            ("nvidia-tpu", 2),
            ("rtx-pro", 2),
            ("tpu-v4", 0),
            ("tpu-v5e", 0),
            ("tpu-v5e-1", 0),
            ("tpu-v6e", 0)
        ]
    );
}

/// What holds for every MIG table, so that a slip of the pen is found.
#[test]
fn every_mig_table_is_sound() {
    let mut tables = 0;
    for name in Profile::names() {
        for (file, model) in Profile::named(name).unwrap().models {
            let Some(mig) = model.mig else { continue };
            tables += 1;
            assert!(mig.profiles.is_sorted_by_key(|row| row.index), "{file}");
            let mut ids: Vec<u32> = mig.profiles.iter().map(|row| row.id).collect();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), mig.profiles.len(), "{file}: ids differ");
            for row in &mig.profiles {
                let what = format!("{file} {}", row.name);
                assert!(row.name.starts_with(&format!("{}g.", row.slices)), "{what}");
                assert!(row.starts.iter().all(|start| start + row.size <= mig.memory_slices), "{what}");
                assert!(row.max as usize <= row.starts.len(), "{what}");
                assert!(row.max * row.slices <= mig.max_devices, "{what}");
                assert!(
                    row.memory_mib * u64::from(mig.memory_slices) <= model.memory.total_mib * u64::from(row.size + 1)
                );
                assert!(row.multiprocessors * 128 <= model.cores * 2, "{what}");
            }
            // The first of those of its size: a part with graphics has another one.
            let whole = mig.profiles.iter().rev().max_by_key(|row| row.slices).unwrap();
            assert_eq!((whole.starts.as_slice(), whole.size, whole.id), (&[0][..], mig.memory_slices, 0), "{file}");
        }
    }
    assert!(tables >= 7);
}

#[test]
fn mistakes_are_told_with_file_line_field_and_value() {
    let cases = [
        ("cuda = \"13.0\"", "cuda = \"thirteen\"", 5, "cuda", "\"thirteen\"", "allowed: <major>.<minor>"),
        ("cuda = \"13.0\"", "cuda = 13", 5, "cuda", "13", "invalid type"),
        ("version = ", "release = ", 4, "release", "\"580.95.05\"", "expected"),
        (
            "numa_node = 0\nserial",
            "numa_node = 7\nserial",
            20,
            "numa_node",
            "7",
            "allowed: -1 (unknown) or one of [0, 1]",
        ),
        ("numa_node = 0\nserial", "numa = 0\nserial", 20, "numa", "0", "expected"),
        ("pci = \"0000:3b:00.0\"", "pci = \"3b:00.0\"", 17, "pci", "\"3b:00.0\"", "domain:bus:device.function"),
        (
            "pci = \"0000:5e:00.0\"",
            "pci = \"0000:3b:00.0\"",
            26,
            "pci",
            "\"0000:3b:00.0\"",
            "allowed: one GPU an address",
        ),
        ("root = \"pci0000:3a\"", "root = \"0000:3a\"", 18, "root", "\"0000:3a\"", "like pci0000:15"),
        ("model = \"a30-24gb\"", "model = \"a31\"", 16, "model", "\"a31\"", "allowed: the name of a file in models/"),
        ("uuid = \"GPU-", "uuid = \"MIG-", 22, "uuid", "MIG-", "8-4-4-4-12"),
    ];
    for (replace, by, line, field, value, problem) in cases {
        let error = with(replace, by).unwrap_err();
        assert_eq!((error.file.as_str(), error.line, error.field.as_str()), ("mixed.toml", line, field), "{error}");
        assert!(error.value.contains(value), "{error}");
        assert!(error.problem.contains(problem), "{error}");
    }
}

#[test]
fn mistakes_in_a_model_name_the_model() {
    let (_, text) = builtin::PROFILES.iter().find(|(name, _)| *name == "mixed").unwrap();
    for (replace, by, field, value, problem) in [
        ("architecture = \"ampere\"", "architecture = \"ampre\"", "architecture", "\"ampre\"", "one of"),
        ("bar1_mib = 32768", "bar1_mib = -1", "bar1_mib", "-1", "invalid value"),
        ("bar1_mib", "bar_mib", "bar_mib", "32768", "expected one of"),
        ("max = 4,", "max = \"four\",", "max", "\"four\"", "invalid type"),
        ("jpeg = 0,", "jpg = 0,", "jpg", "0", "expected one of"),
    ] {
        let models = |name: &str| builtin::model(name).map(|(file, text)| (file, text.replacen(replace, by, 1)));
        let error = text::profile("mixed", "mixed.toml", text, &models).unwrap_err();
        assert!(error.file.ends_with("a30-24gb.toml") && error.line > 1, "{error}");
        assert_eq!((error.field.as_str(), error.value.as_str()), (field, value), "{error}");
        assert!(error.problem.contains(problem), "{error}");
    }
}

#[test]
fn a_profile_from_a_file_uses_the_models_beside_it_first() {
    let directory = tempfile::tempdir().unwrap();
    let (_, text) = builtin::PROFILES.iter().find(|(name, _)| *name == "mixed").unwrap();
    let file = directory.path().join("mine.toml");
    std::fs::write(&file, text).unwrap();
    let mine = Profile::load(&file).unwrap();
    assert_eq!((mine.name.as_str(), &mine.gpus), ("mine", &Profile::named("mixed").unwrap().gpus));
    std::fs::create_dir(directory.path().join("models")).unwrap();
    let (_, model) = builtin::model("t4-16gb").unwrap();
    std::fs::write(directory.path().join("models/t4-16gb.toml"), model.replace("Tesla T4", "My T4")).unwrap();
    assert_eq!(Profile::load(&file).unwrap().models["t4-16gb"].name, "My T4");
}

#[test]
fn an_unknown_name_lists_the_known_ones() {
    let error = Profile::named("dgx-h1000").unwrap_err().to_string();
    assert!(error.contains("\"dgx-h1000\"") && error.contains("a100-h100, dgx-a100, dgx-h100, gb200"), "{error}");
}
