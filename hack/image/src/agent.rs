//! What the agent is shipped in.
//!
//! The agent loads NVML, which is glibc's, when it runs, so it cannot be static, and the image has a loader and a libc.
//! They are those of the machine that the agent was linked on: an older glibc may lack what it was linked against, and a
//! node's own need not be glibc at all. The hook beside it is static: it runs on the node, not in the image.
//!
//! There is no shell, no list of users and no directory that anybody else may write to. The program runs as root, since
//! the kubelet's directories are root's; what else it may do is the chart's to say.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::file::read;
use crate::{Bill, File, Image, Shared, bill_of_materials};

/// The image's name, without a tag.
pub const AGENT: &str = "tessera.dev/agent";

/// Where it has its bill of materials.
const BILL: &str = "/usr/share/sbom/tessera-agent.cdx.json";
/// Where the licences are, of Tessera and of what comes with it.
const LICENCES: &str = "/usr/share/doc/tessera-agent";

/// What Debian says about where its glibc and its libgcc are from and how they are licensed.
const OF_DEBIAN: [(&str, &str); 2] = [("libc6", "glibc"), ("libgcc-s1", "libgcc")];

/// The programs of the agent's image, as they were built.
#[derive(Clone, Copy, Debug)]
pub struct Programs<'a> {
    /// `tessera-agent`, linked with this machine's glibc.
    pub agent: &'a Path,
    /// `tessera-hook`, linked statically.
    pub hook: &'a Path,
}

/// The version of the workspace, which is that of the image and of the chart's application.
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The image of the agent, and its bill of materials.
pub fn agent(workspace: &Path, programs: &Programs<'_>) -> Result<(Image, Vec<u8>)> {
    let shared = Shared::of(programs.agent)?;
    let bill = bill_of_materials(&Bill {
        workspace,
        image: (AGENT, version()),
        packages: &["tessera-agent", "tessera-hook"],
        shared: &shared,
    })?;
    let mut licences = vec![File::text(&format!("{LICENCES}/LICENSE"), read(&workspace.join("LICENSE"))?)];
    for (package, name) in OF_DEBIAN {
        if let Ok(text) = fs::read(format!("/usr/share/doc/{package}/copyright")) {
            licences.push(File::text(&format!("{LICENCES}/{name}"), text));
        }
    }
    let programs = vec![
        File::program("/tessera-agent", without_symbols(programs.agent)?),
        File::program("/tessera-hook", without_symbols(programs.hook)?),
        File::text(BILL, bill.clone()),
    ];
    let image = Image {
        name: format!("{AGENT}:{}", version()),
        user: None,
        entrypoint: vec!["/tessera-agent".to_owned()],
        command: vec!["run".to_owned()],
        environment: vec!["PATH=/".to_owned()],
        labels: vec![
            ("org.opencontainers.image.title", "tessera-agent".to_owned()),
            ("org.opencontainers.image.version", version().to_owned()),
            ("org.opencontainers.image.licenses", "Apache-2.0".to_owned()),
        ],
        layers: vec![[shared.files, licences].concat(), programs],
    };
    Ok((image, bill))
}

/// A program without its symbols, as releases have it: those of a build for tests are four fifths of it.
pub(crate) fn without_symbols(program: &Path) -> Result<Vec<u8>> {
    let stripped = tempfile::NamedTempFile::new().context("no temporary file")?;
    let output = Command::new("strip").arg("-o").arg(stripped.path()).arg(program).output();
    let output = output.context("running strip, which comes with the linker (binutils)")?;
    if !output.status.success() {
        bail!("strip {}: {}", program.display(), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    read(stripped.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_has_two_programs_their_libraries_and_a_bill_and_is_the_same_each_time() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let running = std::env::current_exe().unwrap();
        let programs = Programs { agent: &running, hook: &running };
        let (image, bill) = agent(&workspace, &programs).unwrap();
        let paths: Vec<_> = image.layers.iter().flatten().map(|file| file.path.as_str()).collect();
        for path in ["/tessera-agent", "/tessera-hook", BILL, "/usr/share/doc/tessera-agent/LICENSE"] {
            assert!(paths.contains(&path), "{path}: {paths:?}");
        }
        assert!(image.layers[1].iter().any(|file| file.path == BILL && file.content == bill));
        assert!(!paths.iter().any(|path| path.ends_with("/sh") || path.ends_with("passwd")), "{paths:?}");

        let first = image.archive().unwrap();
        let again = agent(&workspace, &programs).unwrap().0.archive().unwrap();
        assert_eq!((first.digest, first.bytes.len()), (again.digest, again.bytes.len()));
        assert!(first.bytes == again.bytes);
    }
}
