//! What is stored, and what has happened to it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::apply::applied;

/// What is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// `nodes`, cluster-scoped.
    Nodes,
    /// `resourceslices.resource.k8s.io`, cluster-scoped.
    Slices,
    /// `resourceclaims.resource.k8s.io`, in namespaces.
    Claims,
    /// `events.events.k8s.io`, in namespaces.
    Events,
    /// `nodefeatures.nfd.k8s-sigs.io`, in namespaces.
    NodeFeatures,
    /// `nodelayouts.tessera.dev`, cluster-scoped, with a status of its own.
    NodeLayouts,
    /// `deviceclasses.resource.k8s.io`, cluster-scoped.
    Classes,
    /// `leases.coordination.k8s.io`, in namespaces.
    Leases,
    /// `partitionpolicies.tessera.dev`, cluster-scoped.
    Policies,
}

impl Resource {
    /// As in a URL.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Slices => "resourceslices",
            Self::Claims => "resourceclaims",
            Self::Events => "events",
            Self::NodeFeatures => "nodefeatures",
            Self::NodeLayouts => "nodelayouts",
            Self::Classes => "deviceclasses",
            Self::Leases => "leases",
            Self::Policies => "partitionpolicies",
        }
    }

    /// The `apiVersion` and the kind of a list.
    pub(crate) fn list_kind(self) -> (&'static str, &'static str) {
        match self {
            Self::Nodes => ("v1", "NodeList"),
            Self::Slices => ("resource.k8s.io/v1", "ResourceSliceList"),
            Self::Claims => ("resource.k8s.io/v1", "ResourceClaimList"),
            Self::Events => ("events.k8s.io/v1", "EventList"),
            Self::NodeFeatures => ("nfd.k8s-sigs.io/v1alpha1", "NodeFeatureList"),
            Self::NodeLayouts => ("tessera.dev/v1alpha1", "NodeLayoutList"),
            Self::Classes => ("resource.k8s.io/v1", "DeviceClassList"),
            Self::Leases => ("coordination.k8s.io/v1", "LeaseList"),
            Self::Policies => ("tessera.dev/v1alpha1", "PartitionPolicyList"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) resource: Resource,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(resource: Resource, namespace: &str, name: &str) -> Self {
        Self { resource, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub(crate) fn of(resource: Resource, object: &Value) -> Self {
        let field = |name: &str| object["metadata"][name].as_str().unwrap_or_default();
        Self::new(resource, field("namespace"), field("name"))
    }
}

/// One thing that happened, as a watch tells it.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) revision: u64,
    pub(crate) resource: Resource,
    pub(crate) kind: &'static str,
    pub(crate) object: Value,
}

/// Objects by key, and the events that led to them.
#[derive(Default)]
pub(crate) struct Objects {
    revision: u64,
    objects: BTreeMap<Key, Value>,
    events: Vec<Event>,
    /// Older events are forgotten.
    compacted: u64,
    dropped_device_fields: BTreeSet<String>,
}

/// Why a write is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    NotFound,
    AlreadyExists,
    Conflict(&'static str),
    /// What somebody applies is another one's.
    Kept(String),
    /// What is applied and is not there says no name.
    Nameless,
}

impl Objects {
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key)
    }

    pub(crate) fn list(&self, resource: Resource) -> Vec<Value> {
        self.objects.iter().filter(|(key, _)| key.resource == resource).map(|(_, object)| object.clone()).collect()
    }

    /// What happened after a revision; `None` when that is forgotten.
    pub(crate) fn since(&self, resource: Resource, revision: u64) -> Option<Vec<Event>> {
        let later = self.events.iter().filter(|event| event.resource == resource && event.revision > revision);
        (revision >= self.compacted).then(|| later.cloned().collect())
    }

    pub(crate) fn compact(&mut self) {
        // An event of its own, so that a watch that is up to date is behind now too.
        self.revision += 1;
        self.compacted = self.revision;
        self.events.clear();
    }

    pub(crate) fn drop_device_field(&mut self, field: &str) {
        self.dropped_device_fields.insert(field.to_owned());
    }

    /// Creates or replaces, without any condition.
    pub(crate) fn put(&mut self, resource: Resource, object: Value) -> Value {
        let key = Key::of(resource, &object);
        if self.objects.contains_key(&key) {
            self.store(key, object, "MODIFIED")
        } else {
            self.store(key, object, "ADDED")
        }
    }

    /// What creating it would be answered with.
    pub(crate) fn would_create(&self, resource: Resource, mut object: Value) -> Result<Value, Refused> {
        if self.objects.contains_key(&Key::of(resource, &object)) {
            return Err(Refused::AlreadyExists);
        }
        self.complete(resource, &mut object);
        Ok(object)
    }

    pub(crate) fn create(&mut self, resource: Resource, object: Value) -> Result<Value, Refused> {
        let key = Key::of(resource, &object);
        if self.objects.contains_key(&key) {
            return Err(Refused::AlreadyExists);
        }
        Ok(self.store(key, object, "ADDED"))
    }

    /// Replaces, if the object is still the one that the writer has seen.
    pub(crate) fn replace(&mut self, key: Key, object: Value) -> Result<Value, Refused> {
        let current = self.objects.get(&key).ok_or(Refused::NotFound)?;
        for (field, problem) in
            [("uid", "the UID is not that of the object"), ("resourceVersion", "the object has been modified")]
        {
            let wanted = &object["metadata"][field];
            if !wanted.is_null() && *wanted != current["metadata"][field] {
                return Err(Refused::Conflict(problem));
            }
        }
        Ok(self.store(key, object, "MODIFIED"))
    }

    /// Merges a patch into an object (RFC 7386), if that is still the one that the writer has seen.
    pub(crate) fn merge(&mut self, key: Key, patch: &Value) -> Result<Value, Refused> {
        let mut object = self.objects.get(&key).ok_or(Refused::NotFound)?.clone();
        let wanted = &patch["metadata"]["resourceVersion"];
        if !wanted.is_null() && *wanted != object["metadata"]["resourceVersion"] {
            return Err(Refused::Conflict("the object has been modified"));
        }
        merge(&mut object, patch);
        Ok(self.store(key, object, "MODIFIED"))
    }

    /// Has a manager apply a patch; an object that is not there is made.
    pub(crate) fn apply(&mut self, key: Key, mut patch: Value, manager: &str, force: bool) -> Result<Value, Refused> {
        let version = patch["metadata"].as_object_mut().and_then(|metadata| metadata.remove("resourceVersion"));
        let uid = patch["metadata"].as_object_mut().and_then(|metadata| metadata.remove("uid"));
        let current = self.objects.get(&key);
        let differs = |wanted: Option<Value>, field: &str| {
            wanted.is_some_and(|wanted| current.is_none_or(|there| there["metadata"][field] != wanted))
        };
        if differs(version, "resourceVersion") {
            return Err(Refused::Conflict("the object has been modified"));
        }
        if differs(uid, "uid") {
            return Err(Refused::Conflict("uid mismatch"));
        }
        if !self.objects.contains_key(&key) && patch["metadata"]["name"] != key.name {
            return Err(Refused::Nameless);
        }
        patch["metadata"]["name"] = json!(key.name);
        if !key.namespace.is_empty() {
            patch["metadata"]["namespace"] = json!(key.namespace);
        }
        let current = self.objects.get(&key);
        let kind = if current.is_some() { "MODIFIED" } else { "ADDED" };
        let object = applied(current, &patch, manager, force).map_err(Refused::Kept)?;
        Ok(self.store(key, object, kind))
    }

    /// Merges a patch into an object's status, and nothing else of it.
    pub(crate) fn patch_status(&mut self, key: Key, patch: &Value) -> Result<Value, Refused> {
        let mut object = self.objects.get(&key).ok_or(Refused::NotFound)?.clone();
        merge(&mut object["status"], &patch["status"]);
        Ok(self.store(key, object, "MODIFIED"))
    }

    /// Deletes, if the preconditions of `DeleteOptions` hold.
    pub(crate) fn delete_if(&mut self, key: &Key, preconditions: &Value) -> Result<(), Refused> {
        let current = self.objects.get(key).ok_or(Refused::NotFound)?;
        for field in ["uid", "resourceVersion"] {
            let wanted = &preconditions[field];
            if !wanted.is_null() && *wanted != current["metadata"][field] {
                return Err(Refused::Conflict("a precondition does not hold"));
            }
        }
        if current["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty()) {
            let mut object = current.clone();
            if object["metadata"]["deletionTimestamp"].is_null() {
                object["metadata"]["deletionTimestamp"] = json!(now());
                self.store(key.clone(), object, "MODIFIED");
            }
            return Ok(());
        }
        self.delete(key);
        Ok(())
    }

    pub(crate) fn delete(&mut self, key: &Key) {
        if let Some(mut object) = self.objects.remove(key) {
            self.revision += 1;
            object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
            self.events.push(Event { revision: self.revision, resource: key.resource, kind: "DELETED", object });
        }
    }

    fn store(&mut self, key: Key, mut object: Value, kind: &'static str) -> Value {
        let before = self.objects.get(&key);
        let metadata = &mut object["metadata"];
        match before {
            Some(before) => {
                for field in ["uid", "creationTimestamp", "resourceVersion"] {
                    metadata[field] = before["metadata"][field].clone();
                }
            }
            None => {
                metadata["creationTimestamp"] = json!(now());
                if metadata["uid"].is_null() {
                    metadata["uid"] = json!(format!("0b1ec700-0000-4000-8000-{:012x}", self.revision + 1));
                }
            }
        }
        self.complete(key.resource, &mut object);
        if [Resource::Policies, Resource::NodeLayouts].contains(&key.resource) {
            let generation = before.map_or(0, |before| before["metadata"]["generation"].as_i64().unwrap_or(0));
            let same = before.is_some_and(|before| before["spec"] == object["spec"]);
            object["metadata"]["generation"] = json!(generation + i64::from(!same));
        }
        if before == Some(&object) {
            return object;
        }
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        self.events.push(Event { revision: self.revision, resource: key.resource, kind, object: object.clone() });
        self.objects.insert(key.clone(), object.clone());
        let metadata = &object["metadata"];
        let ends = !metadata["deletionTimestamp"].is_null();
        if ends && metadata["finalizers"].as_array().is_none_or(Vec::is_empty) {
            self.delete(&key);
        }
        object
    }

    /// What the server makes of an object that is written.
    fn complete(&self, resource: Resource, object: &mut Value) {
        match resource {
            Resource::Slices => self.default_devices(object),
            Resource::Classes => {
                let spec = object["spec"].as_object_mut();
                spec.into_iter().for_each(|spec| spec.retain(|field, _| !self.dropped_device_fields.contains(field)));
            }
            _ => {}
        }
    }

    /// What the server does to the devices of a slice: a taint gets its time, fields of gates that are off go.
    fn default_devices(&self, object: &mut Value) {
        for device in object["spec"]["devices"].as_array_mut().into_iter().flatten() {
            for taint in device["taints"].as_array_mut().into_iter().flatten() {
                if taint["timeAdded"].is_null() {
                    taint["timeAdded"] = json!(now());
                }
            }
            if let Some(fields) = device.as_object_mut() {
                fields.retain(|field, value| !value.is_null() && !self.dropped_device_fields.contains(field));
            }
        }
    }
}

fn merge(object: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        object.clone_from(patch);
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            object.as_object_mut().map(|object| object.remove(name));
        } else {
            merge(&mut object[name], value);
        }
    }
}

fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(name: &str) -> Value {
        json!({"metadata": {"name": name}, "spec": {"nodeName": "n"}})
    }

    #[test]
    fn a_write_that_changes_nothing_is_none() {
        let mut objects = Objects::default();
        let first = objects.create(Resource::Slices, slice("a")).unwrap();
        assert_eq!(objects.replace(Key::of(Resource::Slices, &first), first.clone()), Ok(first.clone()));
        assert_eq!(objects.revision(), 1);
        assert_eq!(objects.create(Resource::Slices, slice("a")), Err(Refused::AlreadyExists));
    }

    #[test]
    fn a_stale_writer_is_refused() {
        let mut objects = Objects::default();
        let first = objects.create(Resource::Slices, slice("a")).unwrap();
        let key = Key::of(Resource::Slices, &first);
        let mut second = first.clone();
        second["spec"]["nodeName"] = json!("m");
        objects.replace(key.clone(), second).unwrap();
        let mut late = first.clone();
        late["spec"]["nodeName"] = json!("o");
        assert!(matches!(objects.replace(key.clone(), late), Err(Refused::Conflict(_))));
        assert!(matches!(objects.delete_if(&key, &first["metadata"]), Err(Refused::Conflict(_))));
        assert_eq!(objects.delete_if(&key, &json!({"uid": first["metadata"]["uid"]})), Ok(()));
        assert_eq!(objects.delete_if(&key, &json!({})), Err(Refused::NotFound));
        let kinds: Vec<_> = objects.since(Resource::Slices, 0).unwrap().iter().map(|event| event.kind).collect();
        assert_eq!(kinds, ["ADDED", "MODIFIED", "DELETED"]);
    }

    #[test]
    fn what_is_forgotten_is_told() {
        let mut objects = Objects::default();
        objects.create(Resource::Slices, slice("a")).unwrap();
        objects.compact();
        assert!(objects.since(Resource::Slices, 1).is_none());
        assert!(objects.since(Resource::Slices, objects.revision()).unwrap().is_empty());
    }
}
