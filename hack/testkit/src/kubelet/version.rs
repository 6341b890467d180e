/// A release of the kubelet, as far as a driver can tell it from the others. Each difference was read in the sources of
/// 1.34.4, 1.35.4, 1.36.3 and 1.37.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 1.34
    V1_34,
    /// 1.35
    V1_35,
    /// 1.36
    V1_36,
    /// 1.37
    V1_37,
}

impl Version {
    /// Every version that is played, the oldest first.
    pub const ALL: [Self; 4] = [Self::V1_34, Self::V1_35, Self::V1_36, Self::V1_37];

    /// Whether a registration is tried again that failed after GetInfo, and taken back when the plugin could not be
    /// told that it succeeded. Older ones leave it as it is until the socket is made anew.
    pub fn retries_registration(self) -> bool {
        self >= Self::V1_36
    }

    /// Whether it knows shares of devices. Older ones have no such field.
    pub fn knows_share_ids(self) -> bool {
        self >= Self::V1_35
    }

    /// Whether the answer to a repeated prepare replaces the one before. Older ones append it, so that a container gets
    /// every CDI id twice after the failure of another driver of the same claim.
    pub fn replaces_devices(self) -> bool {
        self >= Self::V1_37
    }

    /// Whether a pod must wait that wants a claim which is being unprepared, or whose unprepare failed.
    pub fn waits_for_unprepare(self) -> bool {
        self >= Self::V1_37
    }

    /// Whether only a pod that got as far as the checkpoint causes an unprepare. For older ones every pod that names a
    /// claim does, also where the one pod that really uses it is another.
    pub fn unprepares_only_for_users(self) -> bool {
        self >= Self::V1_37
    }
}
