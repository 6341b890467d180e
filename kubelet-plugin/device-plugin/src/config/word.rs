use std::str::FromStr;

use super::{AllocationPolicy, MigStrategy, Way};

/// A word that is none of those that can stand in its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of {}, and is {word:?}", known.join(", "))]
pub struct UnknownWord {
    known: Vec<&'static str>,
    word: String,
}

/// What a word stands for.
pub(crate) fn of<T: Copy>(words: &[(&'static str, T)], word: &str) -> Result<T, UnknownWord> {
    let found = words.iter().find(|(known, _)| *known == word).map(|(_, meaning)| *meaning);
    found.ok_or_else(|| UnknownWord { known: words.iter().map(|(known, _)| *known).collect(), word: word.to_owned() })
}

impl FromStr for Way {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        of(&Self::WORDS, word)
    }
}

impl FromStr for MigStrategy {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        of(&[("none", Self::None), ("single", Self::Single), ("mixed", Self::Mixed)], word)
    }
}

impl FromStr for AllocationPolicy {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        of(&[("distributed", Self::Distributed), ("packed", Self::Packed)], word)
    }
}
