//! The judges of CDI specs: the published Rust crate and the Go reference code. Neither is ours.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::builds::run;
use crate::tally::Tally;

/// Builds both judges, proves them on fixtures, and has them judge the specs in a directory.
pub(crate) fn judge(specs: &Path) -> Result<Tally> {
    let root = crate::root()?;
    let fixtures = root.join("hack/cdi-oracle/fixtures");
    let target = root.join("target/cdi-oracle");
    run(Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--manifest-path", "hack/cdi-oracle/Cargo.toml", "--target-dir"])
        .arg(&target))?;
    let go = target.join("go-cdi-oracle");
    run(Command::new("go").args(["build", "-C", "hack/cluster/parts/cdi-oracle", "-o"]).arg(&go).arg("."))
        .context("the Go reference needs Go on the PATH")?;

    let mut tally = Tally::default();
    for judge in [target.join("debug/cdi-oracle"), go] {
        let accepts = |path: &Path| -> Result<bool> {
            let output =
                Command::new(&judge).arg(path).output().with_context(|| format!("cannot run {}", judge.display()))?;
            let text = String::from_utf8_lossy(&output.stdout);
            println!("{}", text.lines().last().unwrap_or_default());
            if !output.status.success() && path == specs {
                print!("{text}");
            }
            Ok(output.status.success())
        };
        // One that accepts everything, or nothing, would prove nothing.
        tally = tally + Tally::of(accepts(&fixtures.join("good"))?);
        tally = tally + Tally::of(!accepts(&fixtures.join("bad"))?);
        tally = tally + Tally::of(accepts(specs)?);
    }
    Ok(tally)
}
