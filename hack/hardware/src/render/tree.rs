//! A file tree as a list.

use std::fmt;

/// One file of the tree. Directories come into being by what is in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Path below the root, without a leading slash.
    pub(super) path: String,
    pub(super) content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// A file with this text.
    Text(String),
    /// A file with these bytes.
    Bytes(Vec<u8>),
    /// A symbolic link to this target.
    Link(String),
    /// A character device with this minor number of the tty driver.
    Device(u32),
    /// The library of the simulated driver.
    Library,
}

impl Entry {
    pub(super) fn new(path: impl Into<String>, content: Content) -> Self {
        Self { path: path.into(), content }
    }

    /// A file with one line, as most of sysfs is.
    pub(super) fn line(path: impl Into<String>, line: impl fmt::Display) -> Self {
        Self::new(path, Content::Text(format!("{line}\n")))
    }

    pub(super) fn link(path: impl Into<String>, target: impl Into<String>) -> Self {
        Self::new(path, Content::Link(target.into()))
    }

    /// A link to another path of the tree, relative as the kernel makes them.
    pub(super) fn link_within(path: &str, target: &str) -> Self {
        let from: Vec<&str> = path.split('/').collect();
        let to: Vec<&str> = target.split('/').collect();
        let shared = from.iter().zip(&to).take_while(|(left, right)| left == right).count();
        let up = std::iter::repeat_n("..", from.len() - shared - 1);
        let parts: Vec<&str> = up.chain(to[shared..].iter().copied()).collect();
        Self::link(path, parts.join("/"))
    }
}

/// One line for goldens.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::Text(text) => write!(f, "{}: {:?}", self.path, text.trim_end()),
            Content::Bytes(bytes) => write!(f, "{} ({} bytes)", self.path, bytes.len()),
            Content::Link(target) => write!(f, "{} -> {target}", self.path),
            Content::Device(minor) => write!(f, "{} c {}:{minor}", self.path, super::dev::MAJOR),
            Content::Library => write!(f, "{} (library)", self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_relative() {
        for (path, target, expected) in [
            ("a/b", "a/c", "c"),
            ("sys/bus/pci/devices/x", "sys/devices/pci0000:15/x", "../../../devices/pci0000:15/x"),
            ("a/b/c", "d", "../../d"),
        ] {
            assert_eq!(Entry::link_within(path, target), Entry::link(path, expected));
        }
    }
}
