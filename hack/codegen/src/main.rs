//! Generates the Rust form of the kubelet's gRPC protocols: `api/kubelet/proto/*.proto` becomes
//! `api/kubelet/src/generated/*.rs`, which is checked in, so that a build needs neither protoc nor this crate.
//!
//! `cargo run -p codegen` writes the files. `cargo run -p codegen -- compare <kubelet module>` holds our proto files
//! against those of a checkout of the Go module `k8s.io/kubelet`.

mod generate;
mod protocols;
mod upstream;

use std::path::Path;

use anyhow::bail;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => generate::write(&generate::generate()?),
        ["compare", module] => upstream::compare(Path::new(module)),
        _ => bail!("usage: codegen [compare <directory of the Go module k8s.io/kubelet>]"),
    }
}
