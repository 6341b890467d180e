//! What is checked.

pub(crate) mod attributes;
pub(crate) mod counters;
pub(crate) mod files;
pub(crate) mod life;
pub(crate) mod looks;
pub(crate) mod specs;
