use std::collections::BTreeMap;

use tessera_config::{DeviceConfig, DeviceType, Variable, VfioDeviceConfig};
use tessera_driver::AcceleratorKind;
use tessera_vocabulary::DeviceName;

use crate::offers::{Offer, What};
use crate::{Allocation, ClaimRef, Granted, Inventory, Refusal};

/// How the devices of a claim are set up, by what the claim and its classes say.
pub(crate) struct SetUp {
    passthrough: BTreeMap<DeviceName, VfioDeviceConfig>,
    /// By device and variable: of two requests for one device each may say a variable that the other does not.
    environment: BTreeMap<DeviceName, BTreeMap<&'static str, Variable>>,
}

/// Of a passthrough device of which no config says anything.
static DEFAULT: VfioDeviceConfig = VfioDeviceConfig::DEFAULT;

impl SetUp {
    /// # Errors
    /// [`Refusal::Gone`], and [`Refusal::Config`] for what cannot be followed.
    pub(crate) fn of(claim: &ClaimRef, granted: &Granted, inventory: &Inventory) -> Result<Self, Refusal> {
        let devices = || granted.allocations.iter().map(|allocation| &allocation.device);
        let device_type = |Allocation { scope, device, .. }: &Allocation| match inventory.offer_in(*scope, device) {
            Some(offer) => Ok(device_type(&offer)),
            None => Err(Refusal::Gone(device.clone())),
        };
        let types: Vec<_> = granted.allocations.iter().map(device_type).collect::<Result<_, _>>()?;
        let resolved = granted
            .set_up(&types)
            .map_err(|cause| Refusal::Config { claim: claim.to_string().chars().take(50).collect(), cause })?;
        let mut set_up = Self { passthrough: BTreeMap::new(), environment: BTreeMap::new() };
        for (device, config) in devices().zip(resolved) {
            let environment = config.environment().into_iter().map(|variable| (variable.name, variable));
            set_up.environment.entry(device.clone()).or_default().extend(environment);
            if let DeviceConfig::Passthrough(config) = config {
                set_up.passthrough.insert(device.clone(), config);
            }
        }
        Ok(set_up)
    }

    /// How a passthrough device is to be reached.
    pub(crate) fn of_passthrough(&self, device: &DeviceName) -> &VfioDeviceConfig {
        self.passthrough.get(device).unwrap_or(&DEFAULT)
    }

    /// What the environment of a container with the device says of its set-up, `NAME=value`.
    pub(crate) fn environment_of(&self, device: &DeviceName) -> impl Iterator<Item = String> {
        self.environment.get(device).into_iter().flat_map(BTreeMap::values).map(Variable::to_string)
    }
}

fn device_type(offer: &Offer<'_>) -> DeviceType {
    match (offer.what, offer.accelerator().kind()) {
        (What::Partition { .. }, _) => DeviceType::Partition,
        (What::Passthrough(_), _) => DeviceType::Passthrough,
        (What::Whole | What::Group(_) | What::Domain(_), AcceleratorKind::Gpu) => DeviceType::Gpu,
        (What::Whole | What::Group(_) | What::Domain(_), AcceleratorKind::Tpu) => DeviceType::Tpu,
    }
}

#[cfg(test)]
mod tests {
    use cdi::{ContainerEdits, DeviceNode, Spec};
    use serde_json::{Value, json};
    use tessera_config::Place;
    use tessera_driver::Accelerator;
    use tessera_vocabulary::DriverName;

    use super::*;
    use crate::testing::{claim_ref, gpu, inventory_of, tpu};
    use crate::{Config, Identity, Ledger, Offering, Scope, plan};

    type Said<'a> = (&'a [&'a str], Value);

    fn logging(logging: Value) -> Value {
        json!({"apiVersion": "tpu.resource.google.com/v1alpha1", "kind": "TpuConfig", "logging": logging})
    }

    fn gpu_config() -> Value {
        json!({"apiVersion": "resource.nvidia.com/v1beta1", "kind": "GpuConfig"})
    }

    /// What each CDI device of a claim says of logging.
    fn told(
        accelerators: Vec<Accelerator>,
        given: &[(&str, DeviceName)],
        said: &[Said<'_>],
    ) -> Result<Vec<String>, Refusal> {
        let allocation = |(request, device): &(&str, DeviceName)| Allocation {
            scope: Scope::Node,
            request: (*request).to_owned(),
            full_request: (*request).to_owned(),
            device: device.clone(),
            share_id: None,
            admin_access: false,
        };
        let config = |(requests, parameters): &Said<'_>| Config {
            place: Place::Claim,
            requests: requests.iter().map(|request| (*request).to_owned()).collect(),
            parameters: parameters.clone(),
        };
        let granted =
            Granted { allocations: given.iter().map(allocation).collect(), configs: said.iter().map(config).collect() };
        let identity = Identity::new(DriverName::google_tpu(), "node-1".to_owned(), "boot".to_owned()).unwrap();
        let inventory = inventory_of(Offering { groups: true, ..Offering::NOTHING }, accelerators);
        let record = plan(&identity, &claim_ref("uid-1"), &granted, &inventory, &Ledger::default(), |_| {
            Ok(ContainerEdits { device_nodes: vec![DeviceNode::new("/dev/vfio/0".to_owned())], ..Default::default() })
        })?;
        let spec: Spec = serde_json::from_str(record.spec.as_str()).unwrap();
        let levels = |device: &cdi::Device| {
            let levels = device.container_edits.env.iter().filter(|line| line.contains("_LOG_LEVEL="));
            levels.map(String::as_str).collect::<Vec<_>>().join(" ")
        };
        Ok(spec.devices.iter().map(levels).collect())
    }

    fn chips() -> Vec<Accelerator> {
        (1..=4).map(tpu).collect()
    }

    const TWO: &str = "TPU_MIN_LOG_LEVEL=2 TPU_STDERR_LOG_LEVEL=2";

    #[test]
    fn containers_are_told_what_holds_for_their_chips() {
        let chip = |bus| tpu(bus).name();
        let level = || logging(json!({"level": 2}));
        let all: Vec<_> = (1..=4).map(|bus| ("tpus", chip(bus))).collect();
        // Said once for all chips of a request.
        assert_eq!(told(chips(), &all, &[(&["tpus"], level())]), Ok(vec![TWO.into(), "".into(), "".into(), "".into()]));
        assert_eq!(told(chips(), &all, &[]), Ok(vec![String::new(); 4]));
        assert_eq!(told(chips(), &all, &[(&[], logging(Value::Null))]), Ok(vec![String::new(); 4]));
        let two = [("a", chip(1)), ("b", chip(2))];
        assert_eq!(told(chips(), &two, &[(&["a"], level())]), Ok(vec![TWO.to_owned(), String::new()]));
        assert_eq!(told(chips(), &two, &[(&[], level())]), Ok(vec![TWO.to_owned(), TWO.to_owned()]));
        // One device of two requests, of which each says a part.
        let same = [("a", chip(1)), ("b", chip(1))];
        let stderr = || logging(json!({"stderrLevel": 2}));
        for said in [[(&["a"][..], level()), (&["b"], stderr())], [(&["b"], level()), (&["a"], stderr())]] {
            assert_eq!(told(chips(), &same, &said), Ok(vec![TWO.to_owned()]), "{said:?}");
        }
    }

    #[test]
    fn a_group_of_chips_is_set_up_like_a_chip() {
        let group = DeviceName::group(&[1, 2].map(|bus| tpu(bus).address));
        let said = [(&["block"][..], logging(json!({"level": 2})))];
        assert_eq!(told(chips(), &[("block", group)], &said), Ok(vec![TWO.to_owned(), String::new()]));
    }

    #[test]
    fn what_is_for_other_devices_or_differs_is_refused() {
        let (one, two) = (("a", tpu(1).name()), ("b", tpu(2).name()));
        let refused =
            |accelerators, given: &[_], said: &[Said<'_>]| told(accelerators, given, said).unwrap_err().to_string();
        let texts = [
            refused(chips(), std::slice::from_ref(&one), &[(&["a"], gpu_config())]),
            refused(vec![gpu(1)], &[("a", gpu(1).name())], &[(&["a"], logging(Value::Null))]),
            refused(
                chips(),
                &[one.clone(), two],
                &[(&["a"], logging(json!({"level": 2}))), (&["b"], logging(json!({"level": 1})))],
            ),
            refused(chips(), std::slice::from_ref(&one), &[(&[], logging(json!({"level": 9})))]),
            refused(chips(), &[("a", gpu(1).name())], &[(&[], logging(Value::Null))]),
        ];
        assert!(texts.iter().all(|text| text.len() < 256), "{texts:#?}");
        insta::assert_json_snapshot!(texts);
        // Of what names no requests, each device takes what is for it.
        assert_eq!(told(chips(), std::slice::from_ref(&one), &[(&[], gpu_config())]), Ok(vec![String::new()]));
    }
}
