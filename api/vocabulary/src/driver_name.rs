use std::fmt;
use std::str::FromStr;

/// The longest driver name the API takes, in bytes (`ResourceSlice.spec.driver`).
const MAX_LENGTH: usize = 63;

/// The name of a DRA driver: a lower-case DNS subdomain of at most 63 bytes.
///
/// The socket directory, the CDI kind, the slices and the metrics of a driver all follow it.
/// It is safe as one component of a path: it holds no `/` and does not start with a dot.
///
/// ```
/// use tessera_vocabulary::DriverName;
///
/// let name: DriverName = "gpu.nvidia.com".parse().unwrap();
/// assert_eq!(name, DriverName::nvidia_gpu());
/// assert!("../etc".parse::<DriverName>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DriverName(String);

impl DriverName {
    /// `gpu.nvidia.com`, the name that NVIDIA's own driver has: claims written for it work unchanged.
    pub fn nvidia_gpu() -> Self {
        Self("gpu.nvidia.com".to_owned())
    }

    /// `tpu.google.com`, the name that Google's own driver has.
    pub fn google_tpu() -> Self {
        Self("tpu.google.com".to_owned())
    }

    /// The name as the API and the kubelet spell it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a driver name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "driver name {0:?} is not allowed: it must be a DNS subdomain of at most 63 characters: labels of a-z, 0-9 and -, \
     joined by dots, each starting and ending with a letter or digit"
)]
pub struct InvalidDriverName(String);

impl FromStr for DriverName {
    type Err = InvalidDriverName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() <= MAX_LENGTH && text.split('.').all(is_dns_label) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidDriverName(text.to_owned()))
        }
    }
}

impl fmt::Display for DriverName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A DNS label as Kubernetes defines it (RFC 1123): 1 to 63 of a-z, 0-9 and `-`, alphanumeric at both ends.
pub(crate) fn is_dns_label(text: &str) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_what_the_api_takes_and_nothing_else() {
        let long = format!("{}.com", "a".repeat(59));
        for good in ["gpu.nvidia.com", "a", "x-1.y2", long.as_str()] {
            assert_eq!(good.parse::<DriverName>().map(|name| name.to_string()), Ok(good.to_owned()));
        }
        let too_long = format!("{}.com", "a".repeat(60));
        for bad in
            ["", ".", "..", "a..b", "A.com", "a/b", "-a.com", "a-.com", "a.com.", "gpu_nvidia", "ü.de", &too_long]
        {
            assert!(bad.parse::<DriverName>().is_err(), "{bad:?} was taken");
        }
    }
}
