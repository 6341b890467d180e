//! `cargo xtask manifests`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use simulated_node::Manifests;

use crate::prerequisites;

/// Writes the CustomResourceDefinitions into the chart, renders it into the plain manifests, and removes those of templates that are gone.
pub(crate) fn run() -> Result<()> {
    prerequisites::ensure()?;
    let (path, definitions) = simulated_node::definitions()?;
    fs::write(&path, definitions).with_context(|| format!("writing {}", path.display()))?;
    for (directory, wanted) in simulated_node::plain_manifests()? {
        write(&directory, &wanted)?;
    }
    Ok(())
}

fn write(directory: &Path, wanted: &Manifests) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
    for entry in fs::read_dir(directory).with_context(|| format!("listing {}", directory.display()))?.flatten() {
        if !wanted.contains_key(&*entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path()).with_context(|| format!("removing {}", entry.path().display()))?;
        }
    }
    for (name, text) in wanted {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
