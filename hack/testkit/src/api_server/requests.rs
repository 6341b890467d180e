use std::collections::BTreeMap;

use super::Resource;

/// How often each verb was asked for, refused requests included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    counts: BTreeMap<(String, Resource), usize>,
}

impl Requests {
    /// The requests with a verb (`get`, `list`, `watch`, `create`, `update`, `delete`) about a resource.
    pub fn of(&self, verb: &str, resource: Resource) -> usize {
        self.counts.get(&(verb.to_owned(), resource)).copied().unwrap_or(0)
    }

    /// The requests that were to change something.
    pub fn writes(&self) -> usize {
        let writes =
            self.counts.iter().filter(|((verb, _), _)| ["create", "update", "delete"].contains(&verb.as_str()));
        writes.map(|(_, count)| count).sum()
    }

    /// All requests.
    pub fn all(&self) -> usize {
        self.counts.values().sum()
    }

    pub(crate) fn count(&mut self, verb: &str, resource: Resource) {
        *self.counts.entry((verb.to_owned(), resource)).or_default() += 1;
    }
}
