use std::fmt;

/// A resourceVersion. Those of one kind of object grow with each write (KEP-5504; every etcd behind an API server has always
/// done so), which tells whether one knows an older or a newer state than another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// As it stands in an object. One that is no number is older than any other: nothing is concluded from it.
    pub fn read(text: Option<&str>) -> Self {
        Self(text.and_then(|text| text.parse().ok()).unwrap_or_default())
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
