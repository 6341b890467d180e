//! A file of features.d, the directory from which node-feature-discovery's worker takes labels: a line `key=value` for each.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use tessera_device_plugin::FeatureLabels;

use super::LabelError;

/// The labels in it; none where there is no file. Lines of another form are what nobody reads as a label.
pub(super) fn read(path: &Path) -> Result<FeatureLabels, LabelError> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(FeatureLabels::new()),
        text => text.map_err(|source| LabelError::File { path: path.to_owned(), verb: "read", source })?,
    };
    let labels = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    Ok(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

/// Puts these in its place; without labels there is no file. Written aside, under a name with a dot, which the worker leaves
/// alone.
pub(super) fn write(path: &Path, labels: &FeatureLabels) -> Result<(), LabelError> {
    let failed = |source| LabelError::File { path: path.to_owned(), verb: "written", source };
    if labels.is_empty() {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        };
    }
    let text: String = labels.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.aside"));
    fs::write(&aside, text).and_then(|()| fs::rename(&aside, path)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("gfd");
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<FeatureLabels>()
        };
        assert_eq!(read(&path).unwrap(), labels(&[]));
        let some = labels(&[("nvidia.com/gpu.count", "8"), ("nvidia.com/gpu.sharing-strategy", "")]);
        write(&path, &some).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "nvidia.com/gpu.count=8\nnvidia.com/gpu.sharing-strategy=\n");
        assert_eq!(read(&path).unwrap(), some);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left aside");
        write(&path, &labels(&[])).unwrap();
        write(&path, &labels(&[])).unwrap();
        assert!(!path.exists());
        fs::write(&path, "# +expiry-time=2030-01-01T00:00:00Z\nwhat\na=b=c\n").unwrap();
        assert_eq!(read(&path).unwrap(), labels(&[("a", "b=c")]));
        assert!(read(directory.path()).is_err() && write(&path.join("below"), &some).is_err());
    }
}
