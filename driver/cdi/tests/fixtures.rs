//! What the oracles must take and must refuse, this crate takes and refuses too, and for the reason that each fixture
//! was made for.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;

use cdi::Directory;

fn fixtures(kind: &str) -> Directory {
    Directory::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hack/cdi-oracle/fixtures").join(kind)).unwrap()
}

#[test]
fn good_specs_are_taken() {
    let directory = fixtures("good");
    let names = directory.list("").unwrap();
    assert!(!names.is_empty());
    for name in names {
        let spec = directory.read(&name).unwrap().unwrap();
        assert_eq!(spec.cdi_version, spec.minimum_version(), "{name}");

        // Nothing is lost: what is written back is the same JSON.
        let text = fs::read_to_string(directory.path().join(name.as_str())).unwrap();
        let original: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_value(&spec).unwrap(), original, "{name}");
    }
}

#[test]
fn bad_specs_are_refused_with_the_reason() {
    let directory = fixtures("bad");
    let mut reasons = String::new();
    for name in directory.list("").unwrap() {
        let error = directory.read(&name).expect_err(name.as_str()).to_string();
        let (_, reason) = error.split_once(".json: ").unwrap();
        reasons += &format!("{name}\n    {reason}\n");
    }
    insta::assert_snapshot!(reasons);
}
