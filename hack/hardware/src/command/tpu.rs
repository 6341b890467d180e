//! Commands about TPU chips.

use super::CommandError;
use super::parse::{boolean, number};
use crate::hardware::Hardware;

/// A field of a TPU chip and its new value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TpuSetting {
    /// Plug in or pull out.
    Present(bool),
    /// The kernel driver that has it; `none` for none.
    Driver(Option<String>),
    /// The number of its node: of its IOMMU group, or of `/dev/accel`.
    Number(u32),
    /// Whether its driver says by the kernel's class of accelerators which node is whose.
    Class(bool),
}

/// The fields that `set tpu<n>` knows.
const FIELDS: &str = "present, driver, number, class";

/// The position in `tpu3`.
pub(super) fn position(word: &str) -> Option<usize> {
    word.strip_prefix("tpu")?.parse().ok()
}

impl TpuSetting {
    pub(super) fn parse(field: &str, value: &str) -> Result<Self, CommandError> {
        match field {
            "present" => Ok(Self::Present(boolean(field, value)?)),
            "driver" if value == "none" => Ok(Self::Driver(None)),
            "driver" => driver(value).map(|name| Self::Driver(Some(name))),
            "number" => Ok(Self::Number(number(field, value)?)),
            "class" => Ok(Self::Class(boolean(field, value)?)),
            _ => Err(CommandError::new(field, value, format!("no such field; allowed: {FIELDS}"))),
        }
    }

    pub(super) fn apply(self, hardware: &mut Hardware, position: usize) -> Result<(), CommandError> {
        let taken = match &self {
            Self::Number(number) => {
                let others = hardware.tpus.iter().enumerate().filter(|(other, _)| *other != position);
                let groups = hardware.functions.iter().filter_map(|function| function.group);
                others.map(|(_, other)| other.number).chain(groups).any(|other| other == *number)
            }
            Self::Present(_) | Self::Driver(_) | Self::Class(_) => false,
        };
        let last = hardware.tpus.len().checked_sub(1);
        let Some(tpu) = hardware.tpus.get_mut(position) else {
            let allowed = last.map_or_else(|| "none".to_owned(), |last| format!("tpu0 to tpu{last}"));
            let problem = format!("the machine has none such; allowed: {allowed}");
            return Err(CommandError::new("tpu", &format!("tpu{position}"), problem));
        };
        match self {
            Self::Number(number) if taken => {
                let problem = "another function has it; allowed: one that none has";
                return Err(CommandError::new("number", &number.to_string(), problem));
            }
            Self::Present(present) => tpu.present = present,
            Self::Driver(driver) => tpu.driver = driver,
            Self::Number(number) => tpu.number = number,
            Self::Class(class) => tpu.class = class,
        }
        Ok(())
    }
}

/// Becomes a part of file names.
fn driver(value: &str) -> Result<String, CommandError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if (1..=55).contains(&value.len()) && value.bytes().all(allowed) {
        return Ok(value.to_owned());
    }
    Err(CommandError::new("driver", value, "allowed: the name of a kernel driver such as vfio-pci, or none"))
}
