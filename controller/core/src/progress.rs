use tessera_policy::{DesiredDevice, DeviceState, ReportedDevice};

use crate::node::Agent;

/// How far a device is with what it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It has the layout.
    Settled,
    /// It may be drained or changed at any moment, or is.
    InFlight,
    /// It could not be changed, and will not be tried again by itself.
    Failed,
    /// The agent knows no such device.
    Gone,
}

impl Progress {
    /// What an agent is told and what it says of it.
    ///
    /// A device that has its layout and says so is settled even if the agent has not seen the latest spec yet: what else
    /// changed there is about other devices. This is true because no device is told to be what it still is while the agent may
    /// have begun to make something else of it (see `standing.rs`).
    pub(crate) fn of(desired: &DesiredDevice, reported: Option<&ReportedDevice>, agent: Agent) -> Self {
        let Some(reported) = reported else {
            return if agent == Agent::Informed { Self::Gone } else { Self::InFlight };
        };
        match reported.state {
            DeviceState::Ready if reported.layout == desired.layout => Self::Settled,
            // Before the agent is informed this may be the failure of something else.
            DeviceState::Failed if agent == Agent::Informed && reported.attempt == desired.attempt => Self::Failed,
            _ => Self::InFlight,
        }
    }
}

#[cfg(test)]
mod tests {
    use tessera_policy::Layout;

    use super::*;
    use crate::testing::{desired, gpu};

    #[test]
    fn follows_from_what_both_say() {
        use DeviceState::{Changing, Draining, Failed, Ready};
        let (whole, shares) = (Some(Layout::whole()), Some(Layout::shares(2)));
        for (layout, state, attempt, agent, expected) in [
            (&whole, Ready, 0, Agent::Informed, Progress::Settled),
            (&whole, Ready, 0, Agent::Behind, Progress::Settled),
            (&whole, Draining, 0, Agent::Informed, Progress::InFlight),
            (&shares, Ready, 0, Agent::Behind, Progress::InFlight),
            (&shares, Changing, 0, Agent::Informed, Progress::InFlight),
            (&None, Ready, 0, Agent::Behind, Progress::InFlight),
            (&shares, Failed, 0, Agent::Informed, Progress::Failed),
            (&shares, Failed, 0, Agent::Behind, Progress::InFlight),
            (&shares, Failed, 1, Agent::Informed, Progress::InFlight),
        ] {
            let reported = ReportedDevice { layout: layout.clone(), state, attempt, ..gpu("gpu-0") };
            let progress = Progress::of(&desired("gpu-0", "p", whole.clone()), Some(&reported), agent);
            assert_eq!(progress, expected, "{layout:?} {state:?} {attempt} {agent:?}");
        }
        let wanted = desired("gpu-0", "p", whole);
        for (agent, expected) in [
            (Agent::Silent, Progress::InFlight),
            (Agent::Behind, Progress::InFlight),
            (Agent::Informed, Progress::Gone),
        ] {
            assert_eq!(Progress::of(&wanted, None, agent), expected);
        }
    }
}
