use std::path::Path;

use anyhow::{Context, bail};
use protox::prost_reflect::DescriptorPool;

use crate::protocols::{PROTOCOLS, kubelet_api};

/// Holds each of our proto files against the one in a checkout of the Go module `k8s.io/kubelet`. What counts is what
/// is seen on the wire: packages, services, methods, messages, fields and their numbers and types.
pub(crate) fn compare(module: &Path) -> anyhow::Result<()> {
    let mut different = Vec::new();
    for protocol in &PROTOCOLS {
        let ours = wire_form(&kubelet_api().join("proto"), &protocol.file_name())?;
        let theirs = wire_form(&module.join("pkg/apis").join(protocol.upstream), "api.proto")?;
        let verdict = if ours == theirs { "same" } else { "DIFFERENT" };
        println!("{}: {} lines, {verdict}", protocol.module, ours.len());
        if ours != theirs {
            let missing = theirs.iter().filter(|line| !ours.contains(line)).map(|line| format!("- {line}"));
            let extra = ours.iter().filter(|line| !theirs.contains(line)).map(|line| format!("+ {line}"));
            different.extend(missing.chain(extra));
        }
    }
    if !different.is_empty() {
        bail!("not the protocols of {}:\n{}", module.display(), different.join("\n"));
    }
    Ok(())
}

/// One line for each method, field and enum value, sorted.
fn wire_form(directory: &Path, file: &str) -> anyhow::Result<Vec<String>> {
    let descriptors =
        protox::compile([file], [directory]).with_context(|| directory.join(file).display().to_string())?;
    let pool = DescriptorPool::from_file_descriptor_set(descriptors)?;
    let mut lines = Vec::new();
    for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let kind = (method.is_client_streaming(), method.is_server_streaming());
        let (input, output) = (method.input(), method.output());
        lines.push(format!("{}({}) {} {kind:?}", method.full_name(), input.full_name(), output.full_name()));
    }
    for message in pool.all_messages() {
        lines.push(message.full_name().to_owned());
        for field in message.fields() {
            let cardinality = field.cardinality();
            let shape = (field.number(), field.kind(), field.is_map(), field.supports_presence());
            lines.push(format!("{} {cardinality:?} {shape:?}", field.full_name()));
        }
    }
    for value in pool.all_enums().flat_map(|kind| kind.values().collect::<Vec<_>>()) {
        lines.push(format!("{} {}", value.full_name(), value.number()));
    }
    lines.sort();
    Ok(lines)
}
