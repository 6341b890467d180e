use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Which of several config files a node follows, as NVIDIA's config manager chooses: the one that a label of the node names,
/// else the default, else what the first fallback finds that finds anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// The file of nodes without the label.
    pub default: Option<String>,
    /// What is tried where there is no default.
    pub fallbacks: Fallbacks,
}

/// Fallbacks in the order in which they are tried; as a text, their words with commas between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fallbacks(pub Vec<Fallback>);

/// What is tried where nothing names a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// The file that is called `default`.
    Named,
    /// The only file.
    Single,
    /// None: what is offered where nothing is said.
    Empty,
}

/// Why no file can be chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoConfig {
    /// The label names one that is not there.
    #[error("the node's label names {name}, and there is only {}", listed(.files))]
    Label {
        /// The label's value.
        name: String,
        /// What is there.
        files: BTreeSet<String>,
    },
    /// The default is not there.
    #[error("the default is {name}, and there is only {}", listed(.files))]
    Default {
        /// The default.
        name: String,
        /// What is there.
        files: BTreeSet<String>,
    },
    /// Nothing names one.
    #[error("the node's label names no file, there is no default, and no fallback chooses among {}", listed(.files))]
    Undecided {
        /// What is there.
        files: BTreeSet<String>,
    },
    /// There is none.
    #[error("there is no file")]
    Nothing,
}

/// The file that the first fallback looks for.
const NAMED: &str = "default";

impl Choice {
    /// The file that a node follows, by its label's value; `None` where it is to follow none.
    ///
    /// # Errors
    /// When what is named is not there, or nothing is: see [`NoConfig`].
    pub fn among<'a>(
        &'a self,
        label: Option<&'a str>,
        files: &'a BTreeSet<String>,
    ) -> Result<Option<&'a str>, NoConfig> {
        if files.is_empty() {
            return Err(NoConfig::Nothing);
        }
        let there = |name: &str| files.contains(name);
        match (label.filter(|name| !name.is_empty()), self.default.as_deref().filter(|name| !name.is_empty())) {
            (Some(name), _) | (None, Some(name)) if there(name) => return Ok(Some(name)),
            (Some(name), _) => return Err(NoConfig::Label { name: name.to_owned(), files: files.clone() }),
            (None, Some(name)) => return Err(NoConfig::Default { name: name.to_owned(), files: files.clone() }),
            (None, None) => {}
        }
        let found = self.fallbacks.0.iter().find_map(|fallback| match fallback {
            Fallback::Named => there(NAMED).then_some(Some(NAMED)),
            Fallback::Single => files.first().filter(|_| files.len() == 1).map(|only| Some(only.as_str())),
            Fallback::Empty => Some(None),
        });
        found.ok_or_else(|| NoConfig::Undecided { files: files.clone() })
    }
}

impl FromStr for Fallbacks {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let fallback = |word| match word {
            "named" => Ok(Fallback::Named),
            "single" => Ok(Fallback::Single),
            "empty" => Ok(Fallback::Empty),
            _ => Err("must be named, single or empty, or several of them with commas between"),
        };
        words.map(fallback).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Fallbacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.0.iter().map(|fallback| match fallback {
            Fallback::Named => "named",
            Fallback::Single => "single",
            Fallback::Empty => "empty",
        });
        f.write_str(&words.collect::<Vec<_>>().join(","))
    }
}

fn listed(files: &BTreeSet<String>) -> String {
    files.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_chosen_by_label_default_and_fallbacks() {
        for (label, files, default, fallbacks, expected) in [
            (Some("t4"), "t4 a100", "", "", Ok(Some("t4"))),
            (Some("t4"), "t4 a100", "a100", "named", Ok(Some("t4"))),
            (Some("l4"), "t4 a100", "t4", "empty", Err("the node's label names l4, and there is only a100, t4")),
            (None, "t4 a100", "a100", "empty", Ok(Some("a100"))),
            (Some(""), "t4 a100", "a100", "", Ok(Some("a100"))),
            (None, "t4", "a100", "single", Err("the default is a100, and there is only t4")),
            (None, "t4 default", "", "named,single", Ok(Some("default"))),
            (None, "t4", "", "named,single", Ok(Some("t4"))),
            (None, "t4 a100", "", "named,single,empty", Ok(None)),
            (None, "t4 default", "", "empty,named", Ok(None)),
            (None, "t4 a100", "", "named,single", Err("no fallback chooses among a100, t4")),
            (None, "t4", "", "", Err("no fallback chooses among t4")),
            (Some("t4"), "", "t4", "empty", Err("there is no file")),
        ] {
            let files: BTreeSet<_> = files.split_whitespace().map(str::to_owned).collect();
            let choice = Choice { default: Some(default.to_owned()), fallbacks: fallbacks.parse().unwrap() };
            let chosen = choice.among(label, &files).map_err(|error| error.to_string());
            match (&chosen, expected) {
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                _ => assert_eq!(
                    chosen.as_ref().ok().copied(),
                    expected.ok(),
                    "{label:?} {default} {fallbacks}: {chosen:?}"
                ),
            }
        }
    }

    #[test]
    fn fallbacks_are_words() {
        assert_eq!("named, single,,empty".parse::<Fallbacks>().unwrap().to_string(), "named,single,empty");
        assert_eq!("".parse::<Fallbacks>(), Ok(Fallbacks::default()));
        assert!("first".parse::<Fallbacks>().is_err());
    }
}
