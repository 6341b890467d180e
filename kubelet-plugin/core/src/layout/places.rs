//! Where the parts of a mix lie on an accelerator.

use std::collections::BTreeSet;
use std::fmt::Write;

use tessera_driver::{Partition, Partitioning, Placement, Resources, Shape};
use tessera_policy::{Layout as Said, Mix};

use super::Slot;
use crate::counters::total;
use crate::offers::order;

/// Why an accelerator cannot have the parts of a mix. For people: what is wrong and what could be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DoesNotFit {
    /// It has no parts at all.
    #[error("it cannot be cut into partitions")]
    NotCuttable,
    /// A name that its driver does not know.
    #[error("it knows no profile {profile}; it has {known}")]
    UnknownProfile {
        /// The name.
        profile: String,
        /// Those that it knows, smallest first.
        known: String,
    },
    /// Too much at once.
    #[error("{wanted} do not fit on it at once; {fits} would")]
    TooMuch {
        /// All that is wanted.
        wanted: String,
        /// As much of it as fits, taken in its order.
        fits: String,
    },
}

/// What is left of an accelerator.
#[derive(Clone)]
struct Room {
    taken: Vec<Placement>,
    resources: Resources,
}

/// The profiles that an accelerator can have parts of, smallest first.
pub(super) fn profiles(partitioning: &Partitioning) -> Vec<String> {
    let mut shapes: Vec<_> = partitioning.shapes.iter().filter(|shape| !shape.placements.is_empty()).collect();
    shapes.sort_by_key(|shape| order(&partitioning.shapes, shape, shape.placements[0]));
    let mut known = BTreeSet::new();
    shapes.into_iter().filter(|shape| known.insert(&shape.name)).map(|shape| shape.name.clone()).collect()
}

/// Places for all parts of a mix, in their order on the accelerator.
///
/// Which of several places a part gets is said by nothing but the shapes, so that the same mix lies the same way on equal
/// accelerators and after each restart.
///
/// # Errors
/// See [`DoesNotFit`].
pub fn places(partitioning: &Partitioning, mix: &[Mix]) -> Result<Vec<Slot>, DoesNotFit> {
    if partitioning.shapes.is_empty() {
        return Err(DoesNotFit::NotCuttable);
    }
    let most = usize::try_from(partitioning.slices()).unwrap_or(usize::MAX);
    let (mut wanted, mut too_many) = (Vec::new(), false);
    for part in mix {
        let found = partitioning.shapes.iter().find(|shape| shape.name == part.profile);
        let shape = found.ok_or_else(|| DoesNotFit::UnknownProfile {
            profile: part.profile.clone(),
            known: listed(&profiles(partitioning)),
        })?;
        let count = usize::try_from(part.count).unwrap_or(usize::MAX);
        // Each takes a slice at least: of a number that no accelerator has room for nothing is made.
        too_many |= count > most;
        wanted.extend(std::iter::repeat_n(shape, count.min(most)));
    }
    let found = if too_many || wanted.len() > most { None } else { search(partitioning, &wanted) };
    found.ok_or_else(|| DoesNotFit::TooMuch {
        wanted: said(mix.to_vec()),
        fits: said(in_numbers(&as_many_as_fit(partitioning, &wanted))),
    })
}

/// The slots of partitions that are there, if they are just what a mix names, each whole and in its place.
pub(super) fn adopted(partitioning: &Partitioning, mix: &[Mix]) -> Option<Vec<Slot>> {
    let there = |partition: &Partition| {
        let shape = partitioning.shape(partition.shape).filter(|_| partition.made.is_some())?;
        Some((shape, Slot { shape: shape.id, placement: partition.placement }))
    };
    let there: Vec<_> = partitioning.partitions.iter().map(there).collect::<Option<_>>()?;
    let shapes: Vec<_> = there.iter().map(|(shape, _)| *shape).collect();
    let mut slots: Vec<_> = there.into_iter().map(|(_, slot)| slot).collect();
    slots.sort_unstable();
    (normalized(&in_numbers(&shapes)) == normalized(mix)).then_some(slots)
}

/// A mix by profile, however it is written.
pub(super) fn normalized(mix: &[Mix]) -> Vec<(&str, u32)> {
    let names: BTreeSet<&str> = mix.iter().map(|part| part.profile.as_str()).collect();
    let count = |name: &str| {
        let same = mix.iter().filter(|part| part.profile == name);
        same.fold(0u32, |sum, part| sum.saturating_add(part.count))
    };
    names.into_iter().map(|name| (name, count(name))).collect()
}

/// The largest first, since they have the fewest places; equal ones after each other.
fn search(partitioning: &Partitioning, wanted: &[&Shape]) -> Option<Vec<Slot>> {
    let mut wanted = wanted.to_vec();
    wanted.sort_by_key(|shape| {
        let size = shape.placements.first().map_or(0, |place| place.size);
        (std::cmp::Reverse(size), shape.placements.len(), shape.id)
    });
    let room = Room { taken: Vec::new(), resources: total(partitioning) };
    let mut slots = place(partitioning, &wanted, &room, 0)?;
    slots.sort_unstable();
    Some(slots)
}

/// Places for these; of the first, only those from `first` on: equal parts need not be tried in each other's places.
fn place(partitioning: &Partitioning, wanted: &[&Shape], room: &Room, first: usize) -> Option<Vec<Slot>> {
    let Some((shape, rest)) = wanted.split_first() else { return Some(Vec::new()) };
    let mut places = shape.placements.clone();
    // As on demand: what spoils the fewest others comes first.
    places.sort_by_key(|place| order(&partitioning.shapes, shape, *place));
    let is_same = rest.first().is_some_and(|next| next.id == shape.id);
    places.iter().enumerate().skip(first).find_map(|(index, placement)| {
        let room = room.without(shape, *placement)?;
        let mut slots = place(partitioning, rest, &room, if is_same { index + 1 } else { 0 })?;
        slots.push(Slot { shape: shape.id, placement: *placement });
        Some(slots)
    })
}

impl Room {
    /// What is left beside one more; `None` if there is no room for it.
    fn without(&self, shape: &Shape, placement: Placement) -> Option<Self> {
        if self.taken.iter().any(|taken| taken.overlaps(placement)) {
            return None;
        }
        let (left, takes) = (&self.resources, &shape.resources);
        let resources = Resources {
            multiprocessors: left.multiprocessors.checked_sub(takes.multiprocessors)?,
            copy_engines: left.copy_engines.checked_sub(takes.copy_engines)?,
            decoders: left.decoders.checked_sub(takes.decoders)?,
            encoders: left.encoders.checked_sub(takes.encoders)?,
            jpeg_engines: left.jpeg_engines.checked_sub(takes.jpeg_engines)?,
            ofa_engines: left.ofa_engines.checked_sub(takes.ofa_engines)?,
            ..Resources::default()
        };
        let taken = self.taken.iter().copied().chain([placement]).collect();
        Some(Self { taken, resources })
    }
}

/// As many as fit at once, each taken in its turn.
fn as_many_as_fit<'a>(partitioning: &Partitioning, wanted: &[&'a Shape]) -> Vec<&'a Shape> {
    let (mut fits, mut full): (Vec<&Shape>, BTreeSet<u32>) = Default::default();
    for shape in wanted {
        fits.push(shape);
        // What did not fit once does not fit beside more.
        if full.contains(&shape.id) || search(partitioning, &fits).is_none() {
            full.insert(shape.id);
            fits.pop();
        }
    }
    fits
}

fn in_numbers(shapes: &[&Shape]) -> Vec<Mix> {
    let mut mix: Vec<Mix> = Vec::new();
    for shape in shapes {
        match mix.iter_mut().find(|part| part.profile == shape.name) {
            Some(part) => part.count += 1,
            None => mix.push(Mix { profile: shape.name.clone(), count: 1 }),
        }
    }
    mix
}

fn said(mix: Vec<Mix>) -> String {
    Said { partitions: Some(mix), ..Said::default() }.to_string()
}

/// A few names of many: texts are for events.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 10;
    let mut text = names[..names.len().min(SHOWN)].join(", ");
    if names.len() > SHOWN {
        let _ = write!(text, " and {} more", names.len() - SHOWN);
    }
    text
}

#[cfg(test)]
mod tests {
    use tessera_driver::Made;

    use super::*;
    use crate::testing::partitioning;

    const H100: (&str, &str) = ("dgx-h100", "h100-sxm5-80gb");
    const A100: (&str, &str) = ("dgx-a100", "a100-sxm4-40gb");
    const H200: (&str, &str) = ("h200", "h200-sxm-141gb");
    const B200: (&str, &str) = ("hgx-b200", "b200-180gb");
    const A30: (&str, &str) = ("mixed", "a30-24gb");

    /// `7x1g.10gb 3g.40gb`.
    fn mix(text: &str) -> Vec<Mix> {
        let part = |word: &str| match word.split_once('x') {
            Some((count, profile)) => Mix { profile: profile.to_owned(), count: count.parse().unwrap() },
            None => Mix { profile: word.to_owned(), count: 1 },
        };
        text.split_whitespace().map(part).collect()
    }

    /// `19@0 19@1`: shape and place.
    fn placed(model: (&str, &str), text: &str) -> String {
        match places(&partitioning(model.0, model.1), &mix(text)) {
            Ok(slots) => {
                let slot = |slot: &Slot| format!("{}@{}", slot.shape, slot.placement.start);
                slots.iter().map(slot).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn mixes_lie_where_they_fit() {
        let mixes = [
            (H100, "7x1g.10gb"),
            (H100, "3g.40gb 4g.40gb"),
            (H100, "2x3g.40gb"),
            (H100, "1g.10gb 2g.20gb 3g.40gb"),
            (H100, "2x1g.10gb 2g.20gb 3g.40gb"),
            (H100, "6x1g.10gb 1g.10gb+me"),
            (H100, "7g.80gb"),
            (A100, "7x1g.5gb"),
            (A100, "3g.20gb 4g.20gb"),
            (A100, "2x3g.20gb"),
            (A100, "1g.5gb 2g.10gb 3g.20gb"),
            (H200, "3x2g.35gb 1g.18gb"),
            (H200, "4x1g.35gb"),
            (H200, "7x1g.18gb"),
            (B200, "4g.90gb 3g.90gb"),
            (B200, "1g.23gb 2x2g.45gb 2x1g.23gb"),
            (A30, "4x1g.6gb"),
            (A30, "2x1g.6gb 2g.12gb"),
        ];
        let lines = mixes.map(|(model, text)| format!("{} {text}: {}", model.1, placed(model, text)));
        insta::assert_snapshot!(lines.join("\n"));
        for (model, text) in mixes {
            let partitioning = partitioning(model.0, model.1);
            let slots = places(&partitioning, &mix(text)).unwrap();
            let apart = |one: &Slot| slots.iter().filter(|other| other.placement.overlaps(one.placement)).count() == 1;
            let exists = |one: &Slot| partitioning.shape(one.shape).unwrap().placements.contains(&one.placement);
            assert!(slots.iter().all(|slot| apart(slot) && exists(slot)) && slots.is_sorted(), "{text}: {slots:?}");
        }
    }

    #[test]
    fn what_does_not_fit_says_what_would() {
        for (model, mix, expected) in [
            (H100, "3x3g.40gb", "3x3g.40gb do not fit on it at once; 2x3g.40gb would"),
            (H100, "8x1g.10gb", "8x1g.10gb do not fit on it at once; 7x1g.10gb would"),
            (H100, "64x1g.10gb", "64x1g.10gb do not fit on it at once; 7x1g.10gb would"),
            (H100, "2x1g.10gb+me", "2x1g.10gb+me do not fit on it at once; 1g.10gb+me would"),
            (
                H100,
                "4g.40gb 4g.40gb 1g.10gb",
                "4g.40gb, 4g.40gb, 1g.10gb do not fit on it at once; 4g.40gb, 1g.10gb would",
            ),
            (A30, "4g.24gb 1g.6gb", "4g.24gb, 1g.6gb do not fit on it at once; 4g.24gb would"),
            (
                H100,
                "1g.5gb",
                "it knows no profile 1g.5gb; it has 1g.10gb, 1g.10gb+me, 1g.20gb, 2g.20gb, 3g.40gb, 4g.40gb, 7g.80gb",
            ),
        ] {
            let text = placed(model, mix);
            assert_eq!(text, expected, "{mix} on {}", model.1);
            assert!(text.len() < 200);
        }
        let uncut = Partitioning { shapes: Vec::new(), ..partitioning(H100.0, H100.1) };
        assert_eq!(places(&uncut, &mix("1g.10gb")), Err(DoesNotFit::NotCuttable));
    }

    #[test]
    fn partitions_that_are_there_are_adopted_only_if_they_are_just_what_is_wanted() {
        let slots = places(&partitioning(H100.0, H100.1), &mix("1g.10gb 3g.40gb 1g.10gb")).unwrap();
        let made = |slot: &Slot| Partition {
            shape: slot.shape,
            placement: slot.placement,
            made: Some(Made { gpu_instance: 1, compute_instance: 0, uuid: String::new() }),
        };
        let there: Vec<_> = slots.iter().map(made).collect();
        for (wanted, count, expected) in [
            ("2x1g.10gb 3g.40gb", 3, true),
            ("3g.40gb 2x1g.10gb", 3, true),
            ("2x1g.10gb 3g.40gb", 2, false),
            ("2x1g.10gb", 3, false),
            ("7x1g.10gb", 3, false),
        ] {
            let partitions = there[..count].to_vec();
            let partitioning = Partitioning { partitions, ..partitioning(H100.0, H100.1) };
            let found = adopted(&partitioning, &mix(wanted));
            assert_eq!(found, expected.then(|| slots.clone()), "{wanted}");
        }
        let mut half = Partitioning { partitions: there, ..partitioning(H100.0, H100.1) };
        half.partitions[0].made = None;
        assert_eq!(adopted(&half, &mix("2x1g.10gb 3g.40gb")), None, "not finished");
    }
}
