//! What a GPU reports to those who wait for it.

use serde::{Deserialize, Serialize};

use crate::pci::PciAddress;

/// Something that a GPU reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Grows by one with each event of the machine; an event set remembers the last one it gave out.
    pub sequence: u64,
    /// Which GPU.
    pub gpu: PciAddress,
    /// What kind.
    pub kind: EventType,
    /// The XID for [`EventType::Xid`], otherwise 0.
    pub data: u64,
    /// The GPU instance it is about; absent for the whole GPU.
    #[serde(default)]
    pub gpu_instance: Option<u32>,
    /// The compute instance it is about; absent for the whole GPU.
    #[serde(default)]
    pub compute_instance: Option<u32>,
}

/// The kinds of events that can be raised, with the bit that NVML gives them (`nvmlEventType*` of nvml.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventType {
    /// `nvmlEventTypeSingleBitEccError`
    SingleBitEcc,
    /// `nvmlEventTypeDoubleBitEccError`
    DoubleBitEcc,
    /// `nvmlEventTypeXidCriticalError`
    Xid,
    /// `nvmlEventTypeGpuUnavailableError`
    GpuUnavailable,
    /// `nvmlEventTypeGpuRecoveryAction`
    GpuRecoveryAction,
}

impl EventType {
    /// Every kind, with the word that commands use for it.
    pub const ALL: &[(&str, Self)] = &[
        ("single_bit_ecc", Self::SingleBitEcc),
        ("double_bit_ecc", Self::DoubleBitEcc),
        ("xid", Self::Xid),
        ("gpu_unavailable", Self::GpuUnavailable),
        ("gpu_recovery_action", Self::GpuRecoveryAction),
    ];

    /// The bit that NVML gives it.
    pub fn bit(self) -> u64 {
        match self {
            Self::SingleBitEcc => 0x1,
            Self::DoubleBitEcc => 0x2,
            Self::Xid => 0x8,
            Self::GpuUnavailable => 0x4000,
            Self::GpuRecoveryAction => 0x8000,
        }
    }
}
