//! What the kubelet makes of a driver's answers.

use std::collections::BTreeMap;

use tessera_kubelet_api::dra_v1;

use super::plugin::Prepared;
use super::problem::{Flaw, Problem};

/// A claim that a driver was asked to prepare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) uid: String,
    pub(super) name: String,
    pub(super) namespace: String,
    /// The requests that this driver's devices were allocated for, without subrequests.
    pub(super) requests: Vec<String>,
}

/// The devices by claim UID, if the driver prepared every claim and its answer is sound. The first problem ends the look.
pub(super) fn prepared(
    driver: &str,
    asked: &[Asked],
    answers: BTreeMap<String, Prepared>,
) -> Result<BTreeMap<String, Vec<dra_v1::Device>>, Problem> {
    let flawed = |flaw| Problem::Flawed { driver: driver.to_owned(), flaw };
    let mut devices = BTreeMap::new();
    for (uid, answer) in answers {
        let claim = asked.iter().find(|claim| claim.uid == uid).ok_or_else(|| flawed(Flaw::Unasked(uid.clone())))?;
        let refused = |error| Problem::Refused { driver: driver.to_owned(), claim: claim.name.clone(), error };
        let answer = answer.map_err(refused)?;
        answer.iter().try_for_each(|device| sound(claim, device)).map_err(flawed)?;
        devices.insert(uid, answer);
    }
    match asked.len() - devices.len() {
        0 => Ok(devices),
        skipped => Err(flawed(Flaw::Skipped(skipped))),
    }
}

/// Whether the driver undid every claim.
pub(super) fn unprepared(
    driver: &str,
    asked: &[Asked],
    answers: BTreeMap<String, Result<(), String>>,
) -> Result<(), Problem> {
    let nothing = answers.into_iter().map(|(uid, answer)| (uid, answer.map(|()| Vec::new()))).collect();
    prepared(driver, asked, nothing).map(drop)
}

fn sound(claim: &Asked, device: &dra_v1::Device) -> Result<(), Flaw> {
    if device.pool_name.is_empty() || device.device_name.is_empty() {
        return Err(Flaw::Nameless(claim.name.clone()));
    }
    if let Some(id) = device.cdi_device_ids.iter().find(|id| !is_cdi_id(id)) {
        return Err(Flaw::CdiId(id.clone()));
    }
    match device.request_names.iter().find(|request| !claim.requests.contains(request)) {
        Some(request) => Err(Flaw::Request { claim: claim.name.clone(), request: request.clone() }),
        None => Ok(()),
    }
}

/// By the CDI specification: vendor and class begin with a letter, all three end with a letter or digit.
fn is_cdi_id(id: &str) -> bool {
    let Some(((vendor, class), name)) = id.split_once('=').and_then(|(kind, name)| Some((kind.split_once('/')?, name)))
    else {
        return false;
    };
    let word = |text: &str, more: &str| {
        let inside = |letter: char| letter.is_ascii_alphanumeric() || more.contains(letter);
        text.chars().all(inside) && text.ends_with(|last: char| last.is_ascii_alphanumeric())
    };
    let kind = |text: &str| text.starts_with(|first: char| first.is_ascii_alphabetic()) && word(text, "_-.");
    kind(vendor) && kind(class) && name.starts_with(|first: char| first.is_ascii_alphanumeric()) && word(name, "_-.:")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRIVER: &str = "gpu.example.com";

    fn asked(uid: &str) -> Asked {
        let requests = vec!["gpu".to_owned()];
        Asked { uid: uid.to_owned(), name: format!("claim-{uid}"), namespace: "team".to_owned(), requests }
    }

    fn device(change: impl FnOnce(&mut dra_v1::Device)) -> Prepared {
        let mut device = dra_v1::Device {
            request_names: vec!["gpu".to_owned()],
            pool_name: "node-1/gpu".to_owned(),
            device_name: "gpu-0".to_owned(),
            cdi_device_ids: vec!["example.com/gpu=0".to_owned()],
            share_id: None,
        };
        change(&mut device);
        Ok(vec![device])
    }

    #[test]
    fn answers_that_are_not_taken() {
        let sound = || device(|_| {});
        let of_request = |request: &str| device(|device| device.request_names = vec![request.to_owned()]);
        type Answers = Vec<(&'static str, Prepared)>;
        let cases: [(&str, Answers, &str); 10] = [
            ("all asked for", vec![("1", sound()), ("2", Ok(Vec::new()))], "taken"),
            ("for every request", vec![("1", device(|device| device.request_names.clear())), ("2", sound())], "taken"),
            ("one missing", vec![("1", sound())], "driver skipped 1 ResourceClaims"),
            (
                "one too many",
                vec![("1", sound()), ("2", sound()), ("3", sound())],
                "driver returned a result for the claim UID \"3\", which was not requested",
            ),
            ("a refusal", vec![("1", sound()), ("2", Err("no".to_owned()))], "failed for ResourceClaim claim-2: no"),
            (
                "no pool",
                vec![("1", device(|device| device.pool_name.clear())), ("2", sound())],
                "a device of ResourceClaim claim-1 has no pool or no name",
            ),
            (
                "no name",
                vec![("1", device(|device| device.device_name.clear())), ("2", sound())],
                "a device of ResourceClaim claim-1 has no pool or no name",
            ),
            (
                "no CDI id",
                vec![("1", device(|device| device.cdi_device_ids.push("gpu=0".to_owned()))), ("2", sound())],
                "\"gpu=0\" is no CDI id",
            ),
            (
                "of no request",
                vec![("1", of_request("nic")), ("2", sound())],
                "ResourceClaim claim-1 has no request \"nic\"",
            ),
            (
                "with a subrequest",
                vec![("1", of_request("gpu/large")), ("2", sound())],
                "ResourceClaim claim-1 has no request \"gpu/large\"",
            ),
        ];
        for (case, answers, expected) in cases {
            let answers = answers.into_iter().map(|(uid, answer)| (uid.to_owned(), answer)).collect();
            let found = match prepared(DRIVER, &[asked("1"), asked("2")], answers) {
                Ok(devices) => {
                    assert_eq!(devices.len(), 2, "{case}");
                    "taken".to_owned()
                }
                Err(problem) => problem.to_string().replace(&format!("{DRIVER}: "), ""),
            };
            assert_eq!(found, expected, "{case}");
        }
    }

    #[test]
    fn undoing_needs_an_answer_for_every_claim() {
        for (answers, taken) in [
            (vec![("1", Ok(())), ("2", Ok(()))], true),
            (vec![("1", Ok(()))], false),
            (vec![("1", Ok(())), ("2", Err("busy".to_owned()))], false),
        ] {
            let answers: BTreeMap<_, _> = answers.into_iter().map(|(uid, answer)| (uid.to_owned(), answer)).collect();
            assert_eq!(unprepared(DRIVER, &[asked("1"), asked("2")], answers.clone()).is_ok(), taken, "{answers:?}");
        }
    }

    #[test]
    fn cdi_ids() {
        for (id, well_formed) in [
            ("example.com/gpu=0", true),
            ("tessera.gpu.nvidia.com/claim=gpu-0000-1b-00-0_c1a1", true),
            ("a/b=c:d", true),
            ("example.com/gpu", false),
            ("gpu=0", false),
            ("/gpu=0", false),
            ("example.com/=0", false),
            ("example.com/gpu=", false),
            ("1example.com/gpu=0", false),
            ("example.com/gpu-=0", false),
            ("example.com/gpu=-0", false),
            ("example.com/gpu=0 ", false),
            ("example.com/gpu/x=0", false),
        ] {
            assert_eq!(is_cdi_id(id), well_formed, "{id:?}");
        }
    }
}
