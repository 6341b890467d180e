//! The DeviceClasses that claims name: kept as they stand in a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::resource::v1::DeviceClass;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::client::{CallError, MANAGER, call};
use crate::metrics::Metrics;

/// The file is read again this often: a ConfigMap that is changed becomes another file without a word.
const LOOK: Duration = Duration::from_secs(5);
/// A class must have been missing or otherwise for so long before it is put right: who uninstalls Tessera removes it and then
/// this program, and it would be left behind; who upgrades Tessera changes it and then starts the next one.
const GRACE: Duration = Duration::from_secs(10);
const WATCH_TIMEOUT: u32 = 240;

/// Why the file cannot be followed.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("{path} cannot be read")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}, document {number}: {error}")]
    Syntax { path: PathBuf, number: usize, error: String },
}

/// Keeps them until it is dropped.
pub(crate) async fn keep(client: Client, file: PathBuf, metrics: Metrics) -> anyhow::Result<()> {
    let api: Api<DeviceClass> = Api::all(client);
    let mut events = watcher(api.clone(), Config::default().timeout(WATCH_TIMEOUT)).default_backoff().boxed();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut wanted = BTreeMap::new();
    // Those that are there, as they are; nothing before they were listed.
    let mut there: Option<BTreeMap<String, Value>> = None;
    let mut listing = BTreeMap::new();
    let mut wrong: BTreeMap<String, Instant> = BTreeMap::new();
    // What a server has made of classes of which it keeps less than is wanted: the version, and what was wanted. That is let be until
    // either changes.
    let mut made: BTreeMap<String, (Value, Value)> = BTreeMap::new();
    loop {
        tokio::select! {
            _ = looks.tick() => match read(&file) {
                Ok(read) => wanted = read,
                Err(error) => warn!(error = format!("{:#}", anyhow::Error::new(error)), "the DeviceClasses stay as they were"),
            },
            event = events.next() => match event {
                None => anyhow::bail!("the watch over DeviceClasses ended"),
                Some(Err(error)) => warn!(%error, "the watch over DeviceClasses broke; it is made anew"),
                Some(Ok(Event::Init)) => listing = BTreeMap::new(),
                Some(Ok(Event::InitApply(class))) => drop(listing.insert(class.name_any(), as_value(&class))),
                Some(Ok(Event::InitDone)) => there = Some(std::mem::take(&mut listing)),
                Some(Ok(Event::Apply(class))) => {
                    there.get_or_insert_default().insert(class.name_any(), as_value(&class));
                }
                Some(Ok(Event::Delete(class))) => {
                    there.get_or_insert_default().remove(&class.name_any());
                }
            },
        }
        let Some(there) = &mut there else { continue };
        for (name, class) in &wanted {
            let stored = there.get(name);
            let as_made = |stored: &Value| (version(stored).clone(), class.clone());
            let is_right = |stored: &Value| has(stored, class) || made.get(name) == Some(&as_made(stored));
            let is_right = stored.is_some_and(is_right);
            if is_right {
                wrong.remove(name);
            } else if wrong.entry(name.clone()).or_insert_with(Instant::now).elapsed() < GRACE {
                continue;
            }
            match put_right(&api, name, class, stored, is_right).await {
                Ok(None) => {}
                Ok(Some(written)) => {
                    let written = as_value(&written);
                    let is_another = stored.is_none_or(|stored| version(stored) != version(&written));
                    if wrong.remove(name).is_some() && is_another {
                        info!(class = name, "a DeviceClass was put right");
                        metrics.class_put_right();
                    }
                    if !has(&written, class) {
                        made.insert(name.clone(), as_made(&written));
                    }
                    there.insert(name.clone(), written);
                }
                Err(error) => warn!(class = name, %error, "a DeviceClass cannot be put right"),
            }
        }
    }
}

/// Writes a class that is not as it is wanted, and then owns nothing of it: whoever installs the next release by server-side
/// apply, as Helm does, would be refused what another manager has applied. `None` where all is well.
async fn put_right(
    api: &Api<DeviceClass>,
    name: &str,
    wanted: &Value,
    stored: Option<&Value>,
    is_right: bool,
) -> Result<Option<DeviceClass>, CallError> {
    let ours = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let written = match stored {
        Some(_) if is_right => None,
        // Not by apply: what nobody owns any more would stay.
        Some(stored) => Some(call(api.patch(name, &ours, &Patch::Merge(correction(stored, wanted)))).await?),
        None => Some(call(api.patch(name, &PatchParams::apply(MANAGER), &Patch::Apply(wanted))).await?),
    };
    let owned = written.as_ref().map(as_value);
    match owned.as_ref().or(stored).and_then(disowned) {
        None => Ok(written),
        Some(patch) => call(api.patch(name, &ours, &Patch::Merge(patch))).await.map(Some),
    }
}

/// What makes an object say what is wanted of its spec, and no more, and of its labels, besides others'.
fn correction(stored: &Value, wanted: &Value) -> Value {
    let mut spec = wanted["spec"].as_object().cloned().unwrap_or_default();
    for name in stored["spec"].as_object().into_iter().flat_map(|spec| spec.keys()) {
        spec.entry(name).or_insert(Value::Null);
    }
    let labels = wanted["metadata"]["labels"].as_object().cloned().unwrap_or_default();
    json!({"spec": spec, "metadata": {"labels": labels}})
}

/// What makes an object one of which this program owns nothing, if it owns something.
fn disowned(stored: &Value) -> Option<Value> {
    let managers = stored["metadata"]["managedFields"].as_array()?;
    let mut others: Vec<_> = managers.iter().filter(|manager| manager["manager"] != MANAGER).cloned().collect();
    if others.len() == managers.len() {
        return None;
    }
    if others.is_empty() {
        // An empty list would be taken for nothing said; a list of one empty entry is how the API empties it.
        others.push(json!({}));
    }
    Some(json!({"metadata": {"resourceVersion": version(stored), "managedFields": others}}))
}

fn version(stored: &Value) -> &Value {
    &stored["metadata"]["resourceVersion"]
}

fn as_value(class: &DeviceClass) -> Value {
    serde_json::to_value(class).unwrap_or_default()
}

/// The classes by name.
fn read(path: &Path) -> Result<BTreeMap<String, Value>, FileError> {
    let text = std::fs::read_to_string(path).map_err(|source| FileError::Read { path: path.to_owned(), source })?;
    parse(&text).map_err(|(number, error)| FileError::Syntax { path: path.to_owned(), number, error })
}

fn parse(text: &str) -> Result<BTreeMap<String, Value>, (usize, String)> {
    let mut classes = BTreeMap::new();
    for (number, document) in documents(text).into_iter().enumerate() {
        let wrong = |error: String| (number + 1, error);
        let class: Option<Value> = serde_saphyr::from_str(&document).map_err(|error| wrong(error.to_string()))?;
        // A document of comments alone.
        let Some(class) = class else { continue };
        if class["kind"] != "DeviceClass" || class["apiVersion"] != "resource.k8s.io/v1" {
            return Err(wrong("it is no DeviceClass of resource.k8s.io/v1".to_owned()));
        }
        let name = class["metadata"]["name"].as_str().ok_or_else(|| wrong("it has no name".to_owned()))?;
        classes.insert(name.to_owned(), class.clone());
    }
    Ok(classes)
}

fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        match documents.last_mut() {
            Some(document) if line.trim_end() != "---" => {
                document.push_str(line);
                document.push('\n');
            }
            _ => documents.push(String::new()),
        }
    }
    documents.retain(|document| !document.trim().is_empty());
    documents
}

/// Whether an object says all that is wanted; what else it has is others'. But what follows from it must be no more than is
/// wanted: a list that has more is another one, and so is a spec.
fn has(there: &Value, wanted: &Value) -> bool {
    let part = |name: &str| [there, wanted].map(|object| object.get(name).cloned().unwrap_or_default());
    let [spec, wanted_spec] = part("spec");
    let [metadata, wanted_metadata] = part("metadata");
    let labels = wanted_metadata["labels"].as_object();
    spec == wanted_spec
        && labels.is_none_or(|labels| labels.iter().all(|(key, value)| metadata["labels"].get(key) == Some(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "\
# The DeviceClasses.
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata:
  name: a
  labels:
    app: tessera
spec:
  selectors:
    - cel:
        expression: device.driver == 'a'
---
# Another.
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata:
  name: b
spec: {}
---
# Nothing.
";

    #[test]
    fn a_file_has_classes_as_documents() {
        assert_eq!(parse(TWO).unwrap().keys().collect::<Vec<_>>(), ["a", "b"]);
        for (text, number, error) in [
            ("a: [", 1, ""),
            ("apiVersion: v1\nkind: ConfigMap\n", 1, "it is no DeviceClass"),
            ("apiVersion: resource.k8s.io/v1\nkind: DeviceClass\n", 1, "it has no name"),
        ] {
            let (at, told) = parse(text).unwrap_err();
            assert!(at == number && told.starts_with(error), "{told}");
        }
    }

    #[test]
    fn who_puts_a_class_right_owns_nothing_of_it() {
        let manager = |name: &str| json!({"manager": name, "operation": "Apply", "fieldsV1": {"f:spec": {}}});
        let class = |managers: &[&str]| {
            let managers: Vec<_> = managers.iter().map(|name| manager(name)).collect();
            json!({"metadata": {"resourceVersion": "7", "managedFields": managers}})
        };
        let left =
            |managers: &[&str]| disowned(&class(managers)).map(|patch| patch["metadata"]["managedFields"].clone());
        assert_eq!(left(&["helm"]), None);
        assert_eq!(left(&["helm", MANAGER]), Some(json!([manager("helm")])));
        assert_eq!(left(&[MANAGER]), Some(json!([{}])));
        assert_eq!(disowned(&json!({"metadata": {}})), None);
    }

    #[test]
    fn what_is_too_much_is_taken_away() {
        let stored = json!({"spec": {"selectors": [1], "extendedResourceName": "theirs"}});
        let wanted = json!({"spec": {"selectors": [2]}, "metadata": {"labels": {"app": "tessera"}}});
        let expected = json!({
            "spec": {"selectors": [2], "extendedResourceName": null}, "metadata": {"labels": {"app": "tessera"}},
        });
        assert_eq!(correction(&stored, &wanted), expected);
    }

    #[test]
    fn what_others_add_is_theirs_and_what_they_change_is_not() {
        let wanted = &parse(TWO).unwrap()["a"];
        let changed = |place: &str, value: Value| {
            let mut there = wanted.clone();
            *there.pointer_mut(place).unwrap() = value;
            there
        };
        let mut labelled = wanted.clone();
        labelled["metadata"]["labels"]["theirs"] = "1".into();
        assert!(has(wanted, wanted) && has(&labelled, wanted));
        assert!(!has(&changed("/spec/selectors/0/cel/expression", "true".into()), wanted));
        assert!(!has(&changed("/spec/selectors", Value::Null), wanted));
        assert!(!has(&changed("/metadata/labels/app", "x".into()), wanted));
        let mut more = wanted.clone();
        more["spec"]["extendedResourceName"] = "nvidia.com/gpu".into();
        assert!(!has(&more, wanted));
    }
}
