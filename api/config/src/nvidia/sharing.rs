use crate::Problem;
use crate::error::shown;
use crate::object::Object;

/// The strategies of NVIDIA's driver.
const STRATEGIES: &[(&str, &str)] = &[("TimeSlicing", "TimeSlicing"), ("MPS", "MPS")];

/// Refuses sharing, the strategies of NVIDIA's driver by name. A config without `sharing` means exclusive use.
///
/// A claim that asks to share and silently did not would be seen only when its second pod runs out of memory. What else
/// `sharing` holds is not read: all of it has to go, and a text about a part would lead to the next refusal.
pub(super) fn refuse(object: &Object<'_>) -> Result<(), Problem> {
    const NONE: &str = "no strategy yet; remove sharing";
    let Some(sharing) = object.object("sharing")? else { return Ok(()) };
    let path = sharing.path_of("strategy");
    let Some(value) = sharing.field("strategy") else {
        return Err(Problem::Missing { path, allowed: NONE.to_owned() });
    };
    Err(match STRATEGIES.iter().find(|(name, _)| value.as_str() == Some(name)) {
        Some((name, _)) => Problem::NotOffered { path, value: name, remove: "sharing" },
        None => Problem::Value { path, found: shown(value), allowed: NONE.to_owned() },
    })
}
