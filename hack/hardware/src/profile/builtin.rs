//! The data files that come with this crate, inside the binary so that no tool needs the source tree.

/// Profiles by name.
pub(super) const PROFILES: &[(&str, &str)] = &[
    ("a100-h100", include_str!("../../a100-h100.toml")),
    ("dgx-a100", include_str!("../../dgx-a100.toml")),
    ("dgx-h100", include_str!("../../dgx-h100.toml")),
    ("gb200", include_str!("../../gb200.toml")),
    ("h100x16", include_str!("../../h100x16.toml")),
    ("h200", include_str!("../../h200.toml")),
    ("hgx-a100-4", include_str!("../../hgx-a100-4.toml")),
    ("hgx-b200", include_str!("../../hgx-b200.toml")),
    ("mixed", include_str!("../../mixed.toml")),
    ("nvidia-tpu", include_str!("../../nvidia-tpu.toml")),
    ("rtx-pro", include_str!("../../rtx-pro.toml")),
    ("tpu-v4", include_str!("../../tpu-v4.toml")),
    ("tpu-v5e", include_str!("../../tpu-v5e.toml")),
    ("tpu-v5e-1", include_str!("../../tpu-v5e-1.toml")),
    ("tpu-v6e", include_str!("../../tpu-v6e.toml")),
];

const MODELS: &[(&str, &str)] = &[
    ("a100-sxm4-40gb", include_str!("../../models/a100-sxm4-40gb.toml")),
    ("a30-24gb", include_str!("../../models/a30-24gb.toml")),
    ("b200-180gb", include_str!("../../models/b200-180gb.toml")),
    ("gb200-186gb", include_str!("../../models/gb200-186gb.toml")),
    ("h100-sxm5-80gb", include_str!("../../models/h100-sxm5-80gb.toml")),
    ("h200-sxm-141gb", include_str!("../../models/h200-sxm-141gb.toml")),
    ("l40s-48gb", include_str!("../../models/l40s-48gb.toml")),
    ("rtx-pro-6000-96gb", include_str!("../../models/rtx-pro-6000-96gb.toml")),
    ("t4-16gb", include_str!("../../models/t4-16gb.toml")),
];

/// The file name and content of a model.
pub(super) fn model(name: &str) -> Option<(String, String)> {
    let (name, text) = MODELS.iter().find(|(known, _)| *known == name)?;
    Some((format!("models/{name}.toml"), (*text).to_owned()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn files(directory: &str) -> BTreeSet<String> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
        let names =
            std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter(|name| name != "Cargo.toml")
            .filter_map(|name| Some(name.strip_suffix(".toml")?.to_owned()))
            .collect()
    }

    #[test]
    fn no_data_file_is_forgotten() {
        assert_eq!(files("."), PROFILES.iter().map(|(name, _)| (*name).to_owned()).collect());
        assert_eq!(files("models"), MODELS.iter().map(|(name, _)| (*name).to_owned()).collect());
    }
}
