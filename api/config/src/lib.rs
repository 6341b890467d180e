//! The opaque configs of claims and DeviceClasses: what they may say, and what holds for a device in the end.
//!
//! The API server stores these without a look at them. [`check`] judges one, strictly: a setting that is misspelt is
//! refused and never silently without effect. [`resolve`] judges all that a claim was allocated with and says what holds
//! for each device. The agent and the admission webhook run the same code, so what was admitted can be prepared.
//!
//! Nothing here does I/O or knows a Kubernetes client, and no JSON makes it panic. The texts of errors are shorter than
//! 200 bytes, since they land in events of pods.
//!
//! ```
//! use serde_json::json;
//! use tessera_config::{Device, DeviceConfig, DeviceType, Entry, IommuBackendPolicy, Place, resolve};
//!
//! let parameters = json!({
//!     "apiVersion": "resource.nvidia.com/v1beta1",
//!     "kind": "VfioDeviceConfig",
//!     "iommu": {"backendPolicy": "PreferIommuFD"},
//! });
//! let entry = Entry { place: Place::Claim, requests: &[], parameters: &parameters };
//! let device = Device { request: "vm", device_type: DeviceType::Passthrough };
//! let configs = resolve(&[entry], &[device]).unwrap();
//! let [DeviceConfig::Passthrough(vfio)] = &configs[..] else { panic!("one device of that type") };
//! assert_eq!(vfio.iommu.backend_policy, IommuBackendPolicy::PreferIommuFd);
//! ```

mod device;
mod error;
mod google;
mod kinds;
mod nvidia;
mod object;
mod place;
mod resolve;

pub use device::{DeviceConfig, DeviceType, Variable};
pub use error::{ConfigError, Disagreement, Problem};
pub use google::{LogLevel, LoggingConfig, TpuConfig};
pub use kinds::check;
pub use nvidia::{GpuConfig, IommuBackendPolicy, IommuConfig, MigDeviceConfig, VfioDeviceConfig};
pub use place::Place;
pub use resolve::{Device, Entry, resolve};
