//! Server-side apply, as far as a node agent uses it: each leaf has a manager, a leaf of another one is a conflict, and what a
//! manager applies no more goes. Lists are leaves.

use serde_json::{Map, Value, json};

/// Where a leaf is.
type Place = Vec<String>;

/// What identifies an object, and is nobody's.
const IDENTITY: [&[&str]; 4] = [&["apiVersion"], &["kind"], &["metadata", "name"], &["metadata", "namespace"]];

/// An object once a manager has applied a patch. The error is what the server says to a conflict.
pub(super) fn applied(current: Option<&Value>, patch: &Value, manager: &str, force: bool) -> Result<Value, String> {
    let mut object = current.cloned().unwrap_or_else(|| json!({}));
    let before = current.map(|current| owned(current, manager)).unwrap_or_default();
    let leaves = leaves(patch);
    let is_empty = |value: &Value| value.as_object().is_some_and(Map::is_empty);
    for (place, value) in &leaves {
        let there = at(&object, place);
        let kept_by_others = there.is_some_and(|there| there != value && !is_empty(value)) && !before.contains(place);
        if kept_by_others && !force && !IDENTITY.iter().any(|identity| place == identity) {
            return Err(format!("Apply failed with 1 conflict: conflict with \"another\": .{}", place.join(".")));
        }
    }
    for gone in before.iter().filter(|place| !leaves.iter().any(|(kept, _)| kept == *place)) {
        remove(&mut object, gone);
    }
    for (place, value) in &leaves {
        if !(is_empty(value) && at(&object, place).is_some()) {
            put(&mut object, place, value.clone());
        }
    }
    let mut fields = json!({});
    for (place, _) in leaves.iter().filter(|(place, _)| !IDENTITY.iter().any(|identity| place == identity)) {
        let place: Place = place.iter().map(|key| format!("f:{key}")).collect();
        put(&mut fields, &place, json!({}));
    }
    let entry = json!({"manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields});
    let others = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let others = others.filter(|entry| entry["manager"] != manager).cloned();
    object["metadata"]["managedFields"] = others.chain([entry]).collect();
    Ok(object)
}

/// What a manager has applied.
fn owned(object: &Value, manager: &str) -> Vec<Place> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let fields = entries.filter(|entry| entry["manager"] == manager).map(|entry| &entry["fieldsV1"]);
    let bare = |place: Place| place.iter().map(|key| key.trim_start_matches("f:").to_owned()).collect();
    fields.flat_map(leaves).map(|(place, _)| bare(place)).collect()
}

/// All that is no object, and all objects that are empty.
fn leaves(value: &Value) -> Vec<(Place, Value)> {
    match value.as_object().filter(|fields| !fields.is_empty()) {
        None => vec![(Place::new(), value.clone())],
        Some(fields) => {
            let below = |(key, value): (&String, &Value)| {
                let named = |(place, leaf): (Place, Value)| ([vec![key.clone()], place].concat(), leaf);
                leaves(value).into_iter().map(named).collect::<Vec<_>>()
            };
            fields.iter().flat_map(below).collect()
        }
    }
}

fn at<'a>(object: &'a Value, place: &[String]) -> Option<&'a Value> {
    place.iter().try_fold(object, |value, key| value.get(key))
}

fn put(object: &mut Value, place: &[String], value: Value) {
    *place.iter().fold(object, |object, key| &mut object[key]) = value;
}

fn remove(object: &mut Value, place: &[String]) {
    let Some((last, above)) = place.split_last() else { return };
    let parent = above.iter().try_fold(object, |value, key| value.get_mut(key));
    if let Some(fields) = parent.and_then(Value::as_object_mut) {
        fields.remove(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(labels: Value) -> Value {
        json!({"kind": "Node", "metadata": {"labels": labels}})
    }

    #[test]
    fn a_manager_has_what_it_applied_and_nothing_else() {
        let node = json!({"kind": "Node", "metadata": {"name": "n", "labels": {"theirs": "1"}}});
        let first = applied(Some(&node), &labels(json!({"a/b": "1", "c": "2"})), "we", false).unwrap();
        assert_eq!(first["metadata"]["labels"], json!({"theirs": "1", "a/b": "1", "c": "2"}));
        let second = applied(Some(&first), &labels(json!({"a/b": "3"})), "we", false).unwrap();
        assert_eq!(second["metadata"]["labels"], json!({"theirs": "1", "a/b": "3"}));
        let refused = applied(Some(&second), &labels(json!({"theirs": "2"})), "we", false).unwrap_err();
        assert!(refused.ends_with(".metadata.labels.theirs"), "{refused}");
        let same = applied(Some(&second), &labels(json!({"a/b": "3", "theirs": "1"})), "we", false).unwrap();
        let forced = applied(Some(&same), &labels(json!({"theirs": "2"})), "they", true).unwrap();
        assert_eq!(forced["metadata"]["labels"], json!({"theirs": "2", "a/b": "3"}));
        let none = applied(Some(&second), &labels(json!({})), "we", false).unwrap();
        assert_eq!(none["metadata"]["labels"], json!({"theirs": "1"}));
        assert_eq!(applied(Some(&none), &labels(json!({})), "we", false), Ok(none));
    }

    #[test]
    fn what_is_not_there_is_made() {
        let patch = json!({"kind": "A", "metadata": {"name": "n"}, "spec": {"flags": {}, "labels": {"a": "1"}}});
        let made = applied(None, &patch, "we", true).unwrap();
        assert_eq!((&made["spec"], &made["metadata"]["name"]), (&patch["spec"], &json!("n")));
    }
}
