//! What is asked for.

use super::node::{Kind, Node};

/// A mixture of requests.
pub(super) struct Mix {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// How often each is asked for, by the beginning of the profile's name, of which the first in the driver's order is
    /// meant. What a board does not have is not asked for there.
    weights: &'static [(&'static str, u32)],
}

/// No published trace says which MIG profiles people ask for; these span what is plausible.
pub(super) const MIXES: [Mix; 5] = [
    Mix {
        name: "even",
        about: "1g, 2g, 3g, 4g and 7g, each as often",
        weights: &[("1g", 1), ("2g", 1), ("3g", 1), ("4g", 1), ("7g", 1)],
    },
    Mix {
        name: "small",
        about: "inference and notebooks: 60 % 1g, 25 % 2g, 12 % 3g, 3 % 7g",
        weights: &[("1g", 60), ("2g", 25), ("3g", 12), ("7g", 3)],
    },
    Mix {
        name: "large",
        about: "fine-tuning: 10 % 1g, 20 % 2g, 40 % 3g, 20 % 4g, 10 % 7g",
        weights: &[("1g", 10), ("2g", 20), ("3g", 40), ("4g", 20), ("7g", 10)],
    },
    Mix {
        name: "memory",
        about: "40 % 1g, 30 % 1g with twice the memory, 20 % 2g, 10 % 3g",
        weights: &[("1g", 40), ("1g double", 30), ("2g", 20), ("3g", 10)],
    },
    Mix {
        name: "wholes",
        about: "notebooks beside training: 50 % 1g, 20 % 2g, 30 % whole GPUs",
        weights: &[("1g", 50), ("2g", 20), ("whole", 30)],
    },
];

impl Mix {
    /// What is asked for on a node, and how often.
    pub(super) fn wishes(&self, node: &Node) -> Vec<(Kind, u32)> {
        let kind = |wish: &str| match wish.strip_suffix(" double") {
            Some(small) => node.kind(|name, slices| name.starts_with(small) && slices == 2),
            None => node.kind(|name, _| name.starts_with(wish)),
        };
        self.weights.iter().filter_map(|(wish, weight)| Some((kind(wish)?, *weight))).collect()
    }
}
