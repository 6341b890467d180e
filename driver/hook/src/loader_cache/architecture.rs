use std::fmt;
use std::str::FromStr;

/// Whose libraries they are: a loader takes only its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Architecture {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86.
    I386,
    /// 64-bit Arm.
    Aarch64,
    /// 32-bit Arm with floating-point registers in calls.
    ArmHardFloat,
}

/// A name that is no architecture's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be x86-64, i386, aarch64 or armhf")]
pub struct UnknownArchitecture;

impl Architecture {
    const ALL: [Self; 4] = [Self::X86_64, Self::I386, Self::Aarch64, Self::ArmHardFloat];

    /// `FLAG_ELF_LIBC6` with the `FLAG_*` of the architecture (glibc, `sysdeps/generic/ldconfig.h`).
    pub(super) fn flags(self) -> u32 {
        3 | match self {
            Self::X86_64 => 0x0300,
            Self::I386 => 0,
            Self::Aarch64 => 0x0a00,
            Self::ArmHardFloat => 0x0900,
        }
    }

    pub(super) fn of_flags(flags: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.flags() == flags)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::X86_64 => "x86-64",
            Self::I386 => "i386",
            Self::Aarch64 => "aarch64",
            Self::ArmHardFloat => "armhf",
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Architecture {
    type Err = UnknownArchitecture;

    fn from_str(text: &str) -> Result<Self, UnknownArchitecture> {
        Self::ALL.into_iter().find(|known| known.as_str() == text).ok_or(UnknownArchitecture)
    }
}
