//! What the flags of an agent are called in the chart.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The name that a config file gets which is named by its path alone.
const ONLY: &str = "only";

/// The chart's values for these flags, as Helm's `--set` reads them. Files that flags name lie in the node's run
/// directory, which is `/run/cluster` for the agent that would read them; the chart gets what is in them.
pub(super) fn of(arguments: &[&str], run_directory: &Path) -> Result<Vec<String>> {
    let (mut values, mut offered) = (Vec::new(), Vec::new());
    let mut words = arguments.iter();
    while let Some(flag) = words.next() {
        if *flag == "--pass-device-specs" {
            values.push("devicePlugin.passDeviceSpecs=true".to_owned());
            continue;
        }
        let value = words.next().with_context(|| format!("{flag} without a value"))?;
        match *flag {
            "--offer" => offered.push(*value),
            "--rescan" => values.push(plain("agent.rescan", value)),
            "--reconcile" => values.push(plain("agent.reconcile", value)),
            "--log" => values.push(plain("agent.log.filter", value)),
            "--api" => values.push(plain("api", value)),
            "--device-api" => values.push(list("deviceApi", value)),
            "--mig-strategy" => values.push(plain("devicePlugin.migStrategy", value)),
            "--device-list-strategy" => values.push(list("devicePlugin.deviceListStrategy", value)),
            "--feature-labels" => values.push(plain("featureLabels.way", value)),
            "--default-config" => values.push(plain("devicePlugin.defaultConfig", value)),
            "--config-file" => {
                values.push(config(ONLY, &outside(value, run_directory)?)?);
                values.push(plain("devicePlugin.defaultConfig", ONLY));
            }
            "--config-file-srcdir" => values.extend(configs(&outside(value, run_directory)?)?),
            _ => bail!("{flag}: it is not known here what the chart calls it"),
        }
    }
    if !offered.is_empty() {
        values.push(list("offer", &offered.join(",")));
    }
    Ok(values)
}

fn plain(name: &str, value: &str) -> String {
    // A comma ends a value of Helm's.
    format!("{name}={}", value.replace('\\', "\\\\").replace(',', "\\,"))
}

/// Of words between commas.
fn list(name: &str, words: &str) -> String {
    format!("{name}={{{words}}}")
}

/// A path inside the node, seen from the host.
fn outside(path: &str, run_directory: &Path) -> Result<PathBuf> {
    let below = Path::new(path).strip_prefix("/run/cluster");
    Ok(run_directory.join(below.with_context(|| format!("{path} is not below /run/cluster"))?))
}

fn configs(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).with_context(|| format!("listing {}", directory.display()))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort_unstable();
    paths.iter().map(|path| config(&path.file_name().unwrap_or_default().to_string_lossy(), path)).collect()
}

fn config(name: &str, path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    // What begins with a brace would be a list of Helm's.
    Ok(plain(&format!("devicePlugin.configs.{name}"), &format!("\n{text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_values_in_the_chart() {
        let nowhere = Path::new("/no/such");
        for (flags, wanted) in [
            (
                &["--rescan", "0.5", "--log", "info,a=debug"][..],
                &["agent.rescan=0.5", "agent.log.filter=info\\,a=debug"][..],
            ),
            (&["--offer", "partitions,groups", "--offer", "passthrough"], &["offer={partitions,groups,passthrough}"]),
            (&["--api", "both", "--device-api", "a=dra,b=both"], &["api=both", "deviceApi={a=dra,b=both}"]),
            (
                &["--device-list-strategy", "envvar", "--pass-device-specs", "--mig-strategy", "single"],
                &[
                    "devicePlugin.deviceListStrategy={envvar}",
                    "devicePlugin.passDeviceSpecs=true",
                    "devicePlugin.migStrategy=single",
                ],
            ),
        ] {
            assert_eq!(of(flags, nowhere).unwrap(), wanted);
        }
        for bad in [&["--no-such-flag", "1"][..], &["--rescan"], &["--config-file", "/etc/config"]] {
            assert!(of(bad, nowhere).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn config_files_go_into_the_chart() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("configs")).unwrap();
        fs::write(directory.path().join("one"), "{a: b, c: d}").unwrap();
        for name in ["two", "three"] {
            fs::write(directory.path().join("configs").join(name), "version: v1").unwrap();
        }
        let flags = [
            "--config-file",
            "/run/cluster/one",
            "--config-file-srcdir",
            "/run/cluster/configs",
            "--default-config",
            "two",
        ];
        let wanted = [
            "devicePlugin.configs.only=\n{a: b\\, c: d}",
            "devicePlugin.defaultConfig=only",
            "devicePlugin.configs.three=\nversion: v1",
            "devicePlugin.configs.two=\nversion: v1",
            "devicePlugin.defaultConfig=two",
        ];
        assert_eq!(of(&flags, directory.path()).unwrap(), wanted);
    }
}
