//! The config of the device plugin, which is followed while the agent runs: files change, and the label that chooses one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use tessera_device_plugin::{Choice, Config, Ignored, Overrides};
use tessera_vocabulary::ExtendedResources;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::backends::Row;
use crate::cli::{LabelsGo, RunOptions};
use crate::labels::Labels;
use crate::metrics::Metrics;
use crate::notices::{Notice, Notices};

use super::unserved;

/// Where a config stands that is in no file.
const FLAGS: &str = "of flags and variables";

/// What an admin says about a family's extended resources, now and from now on: with each change the offer is made anew
/// of the inventory, the ledger and this. What pods have stays theirs. `None` before anything can be followed.
pub(crate) type Configured = watch::Receiver<Option<Arc<Config>>>;

/// Where a config comes from.
#[derive(Clone)]
enum Source {
    /// From nowhere: what is offered where nothing is said.
    Nothing,
    /// From a file.
    File(PathBuf),
    /// From one of the files of a directory, which a label of the node names.
    Directory { path: PathBuf, label: String, choice: Choice, labels: Labels },
}

/// Follows a config.
pub(crate) struct Configuration {
    source: Source,
    /// What stands above all files.
    overrides: Overrides,
    told: watch::Sender<Option<Arc<Config>>>,
    /// What was read last.
    last: Option<Result<Read, Refused>>,
    metrics: Metrics,
    notices: Notices,
}

/// The text of a config, and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Read {
    path: Option<PathBuf>,
    text: String,
}

/// Why a config is not followed, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refused {
    path: PathBuf,
    reason: String,
}

impl Source {
    /// Where that of a family comes from.
    fn of(row: &Row, options: &RunOptions, labels: Labels) -> Self {
        if !is_used(row, options) {
            return Self::Nothing;
        }
        let options = &options.plugin_config;
        match (&options.config_file, &options.config_file_srcdir) {
            (Some(file), _) => Self::File(file.clone()),
            (None, Some(directory)) => Self::Directory {
                path: directory.clone(),
                label: options.node_label.clone(),
                choice: options.choice(),
                labels,
            },
            (None, None) => Self::Nothing,
        }
    }

    /// `None` while it is not known what the node's labels are.
    fn read(&self) -> Option<Result<Read, Refused>> {
        match self {
            Self::Nothing => Some(Ok(Read::default())),
            Self::File(path) => Some(read(path)),
            Self::Directory { path, label, choice, labels } => {
                let refused = |reason: String| Refused { path: path.clone(), reason };
                let value = match labels.borrow().as_ref()? {
                    Ok(labels) => labels.get(label).cloned(),
                    Err(reason) => return Some(Err(refused(reason.clone()))),
                };
                let chosen = files(path).map_err(|error| error.to_string()).and_then(|files| {
                    let chosen = choice.among(value.as_deref(), &files).map_err(|error| error.to_string())?;
                    Ok(chosen.map(|name| path.join(name)))
                });
                Some(match chosen {
                    Ok(Some(file)) => read(&file),
                    Ok(None) => Ok(Read::default()),
                    Err(reason) => Err(refused(reason)),
                })
            }
        }
    }
}

/// NVIDIA's config says nothing about other families, and where neither the device plugin is served nor labels are written
/// nothing at all.
fn is_used(row: &Row, options: &RunOptions) -> bool {
    let by_anyone = options.apis().device_plugin() || options.features.feature_labels != LabelsGo::Off;
    row.resources == ExtendedResources::NVIDIA && by_anyone
}

/// The names of the files in a directory. What begins with two dots is how a ConfigMap is changed as a whole.
fn files(directory: &Path) -> io::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string()
            && !name.starts_with("..")
            && !entry.path().is_dir()
        {
            names.insert(name);
        }
    }
    Ok(names)
}

fn read(path: &Path) -> Result<Read, Refused> {
    let text = fs::read_to_string(path);
    let refused = |error: io::Error| Refused { path: path.to_owned(), reason: error.to_string() };
    text.map(|text| Read { path: Some(path.to_owned()), text }).map_err(refused)
}

impl Configuration {
    /// That of a family, before anything is read; `labels` are the node's.
    pub(crate) fn new(row: &Row, options: &RunOptions, labels: Labels, metrics: Metrics, notices: Notices) -> Self {
        let source = Source::of(row, options, labels);
        let mut overrides = Overrides::default();
        if is_used(row, options) {
            overrides = options.device_plugin.overrides();
            unserved::tell();
        }
        Self { source, overrides, told: watch::Sender::new(None), last: None, metrics, notices }
    }

    /// Whether a label of the node has a say.
    pub(crate) fn is_by_label(&self) -> bool {
        matches!(self.source, Source::Directory { .. })
    }

    /// What is to be followed, now and from now on.
    pub(crate) fn configured(&self) -> Configured {
        self.told.subscribe()
    }

    /// Reads it once, so that what is offered first is what is meant.
    pub(crate) fn begin(&mut self) {
        self.take(self.source.read());
    }

    /// Reads it again and again, until stopped.
    pub(crate) async fn follow(mut self, interval: Duration, stop: CancellationToken) {
        let mut labels = match &self.source {
            Source::Directory { labels, .. } => Some(labels.clone()),
            Source::File(_) => None,
            Source::Nothing => return stop.cancelled().await,
        };
        let following = async {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(interval) => {}
                    Some(()) = changed(&mut labels) => {}
                }
                let source = self.source.clone();
                // Not on the async thread: the file may lie anywhere.
                let read = tokio::task::spawn_blocking(move || source.read()).await;
                self.take(read.unwrap_or_default());
            }
        };
        let _: Option<()> = stop.run_until_cancelled(following).await;
    }

    fn take(&mut self, read: Option<Result<Read, Refused>>) {
        let Some(read) = read.filter(|read| self.last.as_ref() != Some(read)) else { return };
        self.last = Some(read.clone());
        let parsed = read.and_then(|Read { path, text }| match Config::read(&text, &self.overrides) {
            Ok(config) => Ok((config, path)),
            Err(error) => Err(Refused { path: path.unwrap_or_else(|| FLAGS.into()), reason: error.to_string() }),
        });
        if !matches!(self.source, Source::Nothing) {
            self.metrics.config_refused(parsed.is_err());
        }
        match parsed {
            Ok((config, path)) => self.put_in_force(config, path),
            Err(Refused { path, reason }) => {
                let kept = self.told.borrow().is_some();
                self.notices.tell(Notice::ConfigRefused { path, reason, kept });
            }
        }
    }

    fn put_in_force(&self, config: Config, path: Option<PathBuf>) {
        let config = Arc::new(config);
        let changed = self.told.send_if_modified(|current| {
            let changed = current.as_ref() != Some(&config);
            *current = Some(Arc::clone(&config));
            changed
        });
        if !changed {
            return;
        }
        if let Some(path) = &path {
            info!(file = %path.display(), "the device plugin's config is in force");
        }
        let from = path.unwrap_or_else(|| FLAGS.into());
        for Ignored { path, instead } in &config.ignored {
            info!(from = %from.display(), path, instead, "a part of the config changes nothing here");
        }
    }
}

/// Waits for a change of the labels, if they matter.
async fn changed(labels: &mut Option<Labels>) -> Option<()> {
    labels.as_mut()?.changed().await.ok()
}
