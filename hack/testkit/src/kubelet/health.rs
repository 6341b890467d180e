//! The health stream of each plugin.

use std::sync::Arc;

use tessera_kubelet_api::health_v1::dra_resource_health_client::DraResourceHealthClient as V1;
use tessera_kubelet_api::health_v1alpha1::dra_resource_health_client::DraResourceHealthClient as V1Alpha1;
use tessera_kubelet_api::{health_v1, health_v1alpha1, names};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::connection::State;
use super::life::Life;
use super::pace;
use super::plugins::Entry;
use super::version::Version;

/// A device as the kubelet knows it: driver, pool, name.
pub type DeviceId = (String, String, String);

/// What the kubelet was told about a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// `HEALTHY`, `UNHEALTHY` or `UNKNOWN`.
    pub health: String,
    /// Why. Kubelets before 1.36 have no such field.
    pub message: String,
}

/// Which of the two services is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    V1,
    V1Alpha1,
}

/// The gate is off up to 1.35. 1.36 asks for the older service, whatever the plugin says that it has; 1.37 has an order of
/// its own among those that the plugin names.
fn choose(version: Version, supported: &[String]) -> Option<Service> {
    let names = |name: &str| supported.iter().any(|supported| supported == name);
    match version {
        Version::V1_34 | Version::V1_35 => None,
        Version::V1_36 => Some(Service::V1Alpha1),
        Version::V1_37 if names(names::HEALTH_V1) => Some(Service::V1),
        Version::V1_37 => names(names::HEALTH_V1ALPHA1).then_some(Service::V1Alpha1),
    }
}

/// Reads a plugin's stream, and opens it again some time after its end, until the plugin goes.
pub(super) async fn watch(life: Arc<Life>, plugin: Entry, supported: Vec<String>) {
    let Some(service) = choose(life.settings.version, &supported) else { return };
    let mut connection = plugin.connection.clone();
    let reading = async {
        // Fails only when nobody connects any more.
        while let Ok(state) = connection.wait_for(State::is_ready).await.map(|state| state.clone()) {
            let State::Ready(channel) = state else { return };
            let Err(status) = read(&life, &plugin.driver, service, channel).await else { return };
            // Of the whole driver, also what another instance told.
            life.journal.write().health.retain(|(driver, ..), _| *driver != plugin.driver);
            if status.code() == Code::Unimplemented && life.settings.version >= Version::V1_37 {
                return;
            }
            tokio::time::sleep(life.settings.pace.pause(pace::HEALTH)).await;
        }
    };
    tokio::select! {
        () = plugin.closed.cancelled() => {}
        () = reading => {}
    }
}

/// Reads to the end, which is always an error: a stream is not meant to end.
async fn read(life: &Life, driver: &str, service: Service, channel: Channel) -> Result<(), Status> {
    let ended = || Status::unavailable("the stream ended");
    let told = |device: Option<(String, String)>, health: String, message: String| {
        let (pool, name) = device.unwrap_or_default();
        life.journal.write().health.insert((driver.to_owned(), pool, name), Health { health, message });
    };
    match service {
        Service::V1 => {
            let request = health_v1::NodeWatchResourcesRequest {};
            let mut stream = V1::new(channel).node_watch_resources(request).await?.into_inner();
            loop {
                for device in stream.message().await?.ok_or_else(ended)?.devices {
                    let health = device.health().as_str_name().to_owned();
                    told(device.device.map(|device| (device.pool_name, device.device_name)), health, device.message);
                }
            }
        }
        Service::V1Alpha1 => {
            let request = health_v1alpha1::NodeWatchResourcesRequest {};
            let mut stream = V1Alpha1::new(channel).node_watch_resources(request).await?.into_inner();
            loop {
                for device in stream.message().await?.ok_or_else(ended)?.devices {
                    let health = device.health().as_str_name().to_owned();
                    told(device.device.map(|device| (device.pool_name, device.device_name)), health, device.message);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_service_is_asked() {
        let all = names::SUPPORTED_VERSIONS.map(str::to_owned).to_vec();
        let older = vec![names::DRA_V1.to_owned(), names::HEALTH_V1ALPHA1.to_owned()];
        let none = vec![names::DRA_V1.to_owned()];
        for (version, expected) in [
            (Version::V1_34, [None, None, None]),
            (Version::V1_35, [None, None, None]),
            (Version::V1_36, [Some(Service::V1Alpha1); 3]),
            (Version::V1_37, [Some(Service::V1), Some(Service::V1Alpha1), None]),
        ] {
            assert_eq!([&all, &older, &none].map(|supported| choose(version, supported)), expected, "{version:?}");
        }
    }
}
