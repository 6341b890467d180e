use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::release::chart;

/// What stands above them.
const HEADING: &str = "\
# Generated from api/policy by `cargo xtask manifests`: to be changed there. A template, since Helm never upgrades what lies in
# a chart's directory crds; and kept when the release goes, since the policies would go with them.
";

/// The template of the chart that has the CustomResourceDefinitions, and what is to stand in it.
pub fn definitions() -> Result<(PathBuf, String)> {
    let mut documents = Vec::new();
    for mut definition in tessera_policy::definitions() {
        let metadata = &mut definition.metadata;
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert("helm.sh/resource-policy".to_owned(), "keep".to_owned());
        let labels = metadata.labels.get_or_insert_default();
        labels.insert("app.kubernetes.io/name".to_owned(), "tessera".to_owned());
        labels.insert("app.kubernetes.io/component".to_owned(), "policies".to_owned());
        documents.push(serde_saphyr::to_string(&definition).context("writing a definition as YAML")?);
    }
    let text = format!("{HEADING}{}", documents.join("---\n"));
    if text.contains("{{") {
        bail!("a definition has two braces, which Helm takes for its own");
    }
    Ok((chart()?.join("templates/crds.yaml"), text))
}
