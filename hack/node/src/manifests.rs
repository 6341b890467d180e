use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use cluster::{KubernetesVersion, Parts};

use crate::release::{NAMESPACE, RELEASE, chart};

/// Manifests by file name.
pub type Manifests = BTreeMap<String, String>;

/// What single values bring besides, by the template that has it.
const RIGHTS: [(&str, &str); 4] = [
    ("config-by-label.yaml", "devicePlugin.configMap=tessera-device-plugin"),
    ("feature-labels-nfd.yaml", "featureLabels.way=node-feature"),
    ("feature-labels-node.yaml", "featureLabels.way=node"),
    ("node-layouts.yaml", "nodeLayouts=true"),
];

/// Where the plain manifests are.
pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/manifests")
}

/// The plain manifests, for those who do not use Helm, by directory: what the chart renders with its own values, a file for
/// each template, and the namespace, which Helm makes itself; and the rights that single flags of the agent need.
pub fn plain_manifests() -> Result<[(PathBuf, Manifests); 2]> {
    let mut manifests = by_template(&render(&[])?)?;
    manifests.insert("namespace.yaml".to_owned(), namespace());
    let rights = RIGHTS.map(|(template, setting)| {
        let rendered = by_template(&render(&[setting])?)?.remove(template);
        Ok((template.to_owned(), rendered.with_context(|| format!("{template} renders nothing with {setting}"))?))
    });
    Ok([(directory(), manifests), (directory().with_file_name("rights"), rights.into_iter().collect::<Result<_>>()?)])
}

fn by_template(rendered: &str) -> Result<Manifests> {
    let mut files = Manifests::new();
    for document in rendered.split("\n---\n").map(|text| text.trim_start_matches("---\n")) {
        let (source, text) = document.split_once('\n').context("a document without its source")?;
        let name = source.rsplit('/').next().filter(|_| source.starts_with("# Source: "));
        let name = name.with_context(|| format!("{source:?} does not name a template"))?;
        let file: &mut String = files.entry(name.to_owned()).or_default();
        file.push_str(if file.is_empty() { HEADING } else { "---\n" });
        file.push_str(text.trim_end());
        file.push('\n');
    }
    Ok(files)
}

const HEADING: &str = "# Rendered from deploy/chart by `cargo xtask manifests`: to be changed there.\n";

/// The agent is privileged and mounts directories of its node.
fn namespace() -> String {
    format!(
        "{HEADING}apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n  labels:\n    \
         pod-security.kubernetes.io/enforce: privileged\n"
    )
}

/// What the chart renders with these values, as Helm's `--set` reads them.
pub fn render(settings: &[&str]) -> Result<String> {
    let chart = chart()?;
    let chart = chart.to_str().context("the repository's path is not UTF-8")?;
    let mut arguments = vec!["template", RELEASE, chart, "--namespace", NAMESPACE, "--kube-version", "1.37"];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    helm(&arguments)
}

/// Runs Helm without a cluster and gives what it prints; its error is what it complains of.
pub fn helm(arguments: &[&str]) -> Result<String> {
    let parts = Parts::ensure(KubernetesVersion::default(), &mut |building| eprintln!("{building}"))?;
    let own = std::env::temp_dir().join("tessera-helm");
    let mut command = Command::new(parts.program("helm").context("helm is no part of a cluster")?);
    for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(name, &own);
    }
    let output = command.args(arguments).env_remove("KUBECONFIG").output().context("cannot run helm")?;
    if !output.status.success() {
        let [said, complained] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        bail!("helm {}: {said}{complained}", arguments.join(" "));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
