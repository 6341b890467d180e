//! The layouts of a driver's devices on disk: a file for each device, beside the records of claims, in a directory that a reboot
//! empties.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tessera_core::LayoutRecord;
use tessera_vocabulary::DeviceName;
use tracing::info;

use crate::files::{self, FileError, Found};
use crate::notices::Notice;

const EXTENSION: &str = "layout";
/// Not that of a claim's record, whose name is a UID.
const SET_ASIDE: &str = "unreadable-layout";

/// What was kept, and what was put right on the way.
type Loaded = (BTreeMap<DeviceName, LayoutRecord>, Vec<Notice>);

/// Reads every layout of this boot. What was written before is forgotten: partitions do not survive a reboot.
///
/// # Errors
/// When the directory or a file in it cannot be read. A file that can be read and is no layout is no error.
pub(crate) fn load(directory: &Path, boot_id: &str) -> Result<Loaded, FileError> {
    let (mut layouts, mut notices) = (BTreeMap::new(), Vec::new());
    for path in paths(directory)? {
        match files::read(path, SET_ASIDE, |bytes| LayoutRecord::decode(&bytes))? {
            Found::Nothing => {}
            Found::Whole { content, .. } if content.boot_id == boot_id => {
                layouts.insert(content.device.clone(), content);
            }
            Found::Whole { path, content } => {
                info!(device = %content.device, "forgetting the layout of a device from before the reboot");
                let _ = fs::remove_file(&path);
            }
            Found::Damaged { path, kept_as, reason } => {
                notices.push(Notice::LayoutSetAside { path, kept_as, reason });
            }
        }
    }
    Ok((layouts, notices))
}

/// What is kept of this boot, as far as it can be read. Changes nothing.
pub(crate) fn peek(directory: &Path, boot_id: &str) -> BTreeMap<DeviceName, LayoutRecord> {
    let records = paths(directory).unwrap_or_default().into_iter();
    let records = records.filter_map(|path| LayoutRecord::decode(&fs::read(path).ok()?).ok());
    records.filter(|record| record.boot_id == boot_id).map(|record| (record.device.clone(), record)).collect()
}

/// Whether there is any layout in the directory.
pub(crate) fn has_layouts(directory: &Path) -> bool {
    paths(directory).is_ok_and(|paths| !paths.is_empty())
}

/// Keeps what is known of a device, whole or not at all; nothing, where that says nothing.
pub(crate) fn write(directory: &Path, record: &LayoutRecord) -> Result<(), FileError> {
    // Made of a PCI address, or read as a name of a device: nothing else is in it.
    let path = directory.join(format!("{}.{EXTENSION}", record.device));
    if record.says_nothing() {
        return files::remove(path);
    }
    files::write_encoded(path, record.encode())
}

fn paths(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let is_layout = |path: &PathBuf| path.extension().is_some_and(|extension| extension == EXTENSION);
    Ok(files::list(directory)?.into_iter().filter(is_layout).collect())
}

#[cfg(test)]
mod tests {
    use tessera_core::Layout;

    use super::*;

    fn record(boot_id: &str, layout: Layout) -> LayoutRecord {
        LayoutRecord {
            boot_id: boot_id.to_owned(),
            device: "gpu-0000-1b-00-0".parse().unwrap(),
            accelerator: "0000:1b:00.0".parse().unwrap(),
            uuid: "GPU-1".to_owned(),
            layout,
            policy: "research".to_owned(),
            change: None,
            failure: None,
        }
    }

    #[test]
    fn what_was_written_is_read_until_it_says_nothing_or_the_node_is_booted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert!(!has_layouts(&path.join("missing")) && load(path, "boot").unwrap().0.is_empty());
        let whole = record("boot", Layout::Whole);
        write(path, &whole).unwrap();
        write(path, &whole).unwrap();
        assert!(has_layouts(path));
        assert_eq!(load(path, "boot").unwrap().0.into_values().collect::<Vec<_>>(), [whole]);
        let nothing = record("boot", Layout::AsTold);
        write(path, &nothing).unwrap();
        write(path, &nothing).unwrap();
        assert!(!has_layouts(path));

        write(path, &record("the last boot", Layout::Whole)).unwrap();
        assert!(load(path, "boot").unwrap().0.is_empty() && !has_layouts(path));
    }

    #[test]
    fn what_cannot_be_read_is_set_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::write(path.join("gpu-0000-1b-00-0.layout"), "damaged").unwrap();
        fs::create_dir(path.join("gpu-0000-2b-00-0.layout")).unwrap();
        let (layouts, notices) = load(path, "boot").unwrap();
        assert!(layouts.is_empty() && !has_layouts(path), "{layouts:?}");
        let reason = |notice: &Notice| match notice {
            Notice::LayoutSetAside { reason, .. } => reason.clone(),
            other => format!("{other:?}"),
        };
        let mut reasons: Vec<_> = notices.iter().map(reason).collect();
        reasons.sort();
        assert_eq!(reasons, ["it has no header", "it is a directory"]);
        assert!(path.join("gpu-0000-1b-00-0.unreadable-layout").exists(), "it is kept for a person to look at");
    }
}
