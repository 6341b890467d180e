//! What is said of the driver, which is one for all GPUs.

use tessera_vocabulary::feature_labels::{driver_version, runtime_version};

use super::gpus::Gpu;
use super::{FeatureLabels, value};

pub(super) fn labels(gpus: &[Gpu<'_>]) -> FeatureLabels {
    let Some(gpu) = gpus.first() else { return FeatureLabels::new() };
    let mut labels = FeatureLabels::new();
    let mut put = |keys: &[&str], text: &str| labels.extend(keys.iter().map(|key| ((*key).to_owned(), value(text))));
    let cuda = &gpu.facts.cuda_driver_version;
    put(&[runtime_version::FULL], &format!("{}.{}", cuda.major, cuda.minor));
    put(&runtime_version::MAJOR, &cuda.major.to_string());
    put(&runtime_version::MINOR, &cuda.minor.to_string());
    let driver = &gpu.facts.driver_version_text;
    // Of a driver with another form of version, nothing is said.
    if let [major, minor, rest @ ..] = &driver.split('.').collect::<Vec<_>>()[..]
        && rest.len() <= 1
    {
        put(&[driver_version::FULL], driver);
        put(&driver_version::MAJOR, major);
        put(&driver_version::MINOR, minor);
        put(&driver_version::REVISION, rest.first().copied().unwrap_or_default());
    }
    labels
}
