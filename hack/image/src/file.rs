use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// A file of an image. It belongs to root, as everything in an image does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Where it is in the image, absolute.
    pub path: String,
    /// Its permissions.
    pub mode: u32,
    /// Its bytes.
    pub content: Vec<u8>,
}

impl File {
    /// A program or a library.
    pub fn program(path: &str, content: Vec<u8>) -> Self {
        Self { path: path.to_owned(), mode: 0o755, content }
    }

    /// A file to be read.
    pub fn text(path: &str, content: Vec<u8>) -> Self {
        Self { path: path.to_owned(), mode: 0o644, content }
    }

    /// A program or library of this machine, at the same path.
    pub fn of_machine(path: &str) -> Result<Self> {
        Ok(Self::program(path, read(Path::new(path))?))
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}
