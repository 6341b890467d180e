//! The file in which the kubelet keeps claims: the only thing of them that outlives it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tessera_kubelet_api::dra_v1;

use super::claim_infos::{ClaimInfo, DriverState, Key};

/// The name of the file in the kubelet's directory. Its fields are named as the real one's; that one has a checksum and
/// escapes the whole a second time, and keeps the requests of devices only.
pub(super) const FILE: &str = "dra_manager_state";

pub(super) fn write(directory: &Path, claims: &BTreeMap<Key, ClaimInfo>) {
    let entries: Vec<_> = claims.iter().map(|(key, info)| claim(key, info)).collect();
    let aside = directory.join(format!("{FILE}.new"));
    fs::write(&aside, json!({"kind": "DRACheckpoint", "entries": entries}).to_string()).expect("the checkpoint");
    fs::rename(aside, directory.join(FILE)).expect("the checkpoint");
}

/// What an earlier kubelet has written; nothing if there was none.
pub(super) fn read(directory: &Path) -> BTreeMap<Key, ClaimInfo> {
    let Ok(text) = fs::read_to_string(directory.join(FILE)) else { return BTreeMap::new() };
    let file: Value = serde_json::from_str(&text).expect("a checkpoint is JSON");
    list(&file["entries"]).map(info).collect()
}

fn claim((namespace, name): &Key, info: &ClaimInfo) -> Value {
    let drivers = info.drivers.iter().map(|(driver, state)| {
        let devices: Vec<_> = state.devices.iter().map(device).collect();
        (driver.clone(), json!({"Requests": state.requests, "Devices": devices}))
    });
    json!({
        "ClaimUID": info.uid, "ClaimName": name, "Namespace": namespace, "PodUIDs": info.pods,
        "DriverState": drivers.collect::<serde_json::Map<_, _>>(),
    })
}

fn device(device: &dra_v1::Device) -> Value {
    json!({
        "PoolName": device.pool_name, "DeviceName": device.device_name, "ShareID": device.share_id,
        "RequestNames": device.request_names, "CDIDeviceIDs": device.cdi_device_ids,
    })
}

fn info(entry: &Value) -> (Key, ClaimInfo) {
    let drivers = entry["DriverState"].as_object().into_iter().flatten().map(|(driver, state)| {
        let devices = list(&state["Devices"]).map(|device| dra_v1::Device {
            request_names: texts(&device["RequestNames"]),
            pool_name: text(&device["PoolName"]),
            device_name: text(&device["DeviceName"]),
            cdi_device_ids: texts(&device["CDIDeviceIDs"]),
            share_id: device["ShareID"].as_str().map(str::to_owned),
        });
        (driver.clone(), DriverState { requests: texts(&state["Requests"]), devices: devices.collect() })
    });
    let pods = texts(&entry["PodUIDs"]).into_iter().collect();
    let info = ClaimInfo::new(text(&entry["ClaimUID"]), pods, drivers.collect());
    ((text(&entry["Namespace"]), text(&entry["ClaimName"])), info)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn texts(value: &Value) -> Vec<String> {
    list(value).map(text).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()), BTreeMap::new());
        let device = dra_v1::Device {
            request_names: vec!["gpu".to_owned()],
            pool_name: "node-1/gpu".to_owned(),
            device_name: "gpu-0".to_owned(),
            cdi_device_ids: vec!["example.com/gpu=0".to_owned()],
            share_id: Some("share".to_owned()),
        };
        let plain = dra_v1::Device { share_id: None, ..device.clone() };
        let state = DriverState { requests: vec!["gpu".to_owned()], devices: vec![device, plain] };
        let drivers = [("gpu.example.com".to_owned(), state), ("nic.example.com".to_owned(), DriverState::default())];
        let info = ClaimInfo::new("uid".to_owned(), ["pod-1".to_owned()].into(), drivers.into());
        let claims = BTreeMap::from([(("team".to_owned(), "training".to_owned()), info)]);
        write(directory.path(), &claims);
        assert_eq!(read(directory.path()), claims);
    }
}
