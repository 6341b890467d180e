use std::time::Duration;

use serde_json::json;
use testkit::api_server::Resource;

use crate::ground::Ground;

/// Within this time what is wrong would be put right.
const LONG_ENOUGH: Duration = Duration::from_secs(18);

const CLASSES: &str = "\
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata:
  name: gpu.nvidia.com
spec:
  selectors:
    - cel:
        expression: device.driver == 'gpu.nvidia.com'
";

#[test]
fn a_class_that_is_edited_or_deleted_is_put_right() {
    let mut ground = Ground::new(0);
    let file = ground.file("classes.yaml", CLASSES);
    let replica = ground.start("a", &["--device-classes", file.to_str().unwrap()]);
    let expression = |ground: &Ground| {
        let class = ground.server.get(Resource::Classes, "", "gpu.nvidia.com")?;
        class["spec"]["selectors"][0]["cel"]["expression"].as_str().map(str::to_owned)
    };
    let is_right =
        move |ground: &mut Ground| expression(ground).as_deref() == Some("device.driver == 'gpu.nvidia.com'");
    ground.until("it is made", &[&replica], is_right);
    ground.server.edit(Resource::Classes, "", "gpu.nvidia.com", |class| {
        class["spec"]["selectors"][0]["cel"]["expression"] = json!("true");
    });
    ground.until("it is put right", &[&replica], is_right);
    ground.server.delete(Resource::Classes, "", "gpu.nvidia.com");
    ground.until("it is made again", &[&replica], is_right);
}

#[test]
fn what_a_server_keeps_nothing_of_is_written_once() {
    let mut ground = Ground::new(0);
    ground.server.drop_device_field("extendedResourceName");
    let file = ground.file("classes.yaml", &format!("{CLASSES}  extendedResourceName: nvidia.com/gpu\n"));
    let replica = ground.start("a", &["--device-classes", file.to_str().unwrap()]);
    ground.until("it is made", &[&replica], |ground| {
        ground.server.get(Resource::Classes, "", "gpu.nvidia.com").is_some()
    });
    // And nobody owns it any more.
    std::thread::sleep(Duration::from_secs(2));
    ground.server.forget_requests();
    std::thread::sleep(LONG_ENOUGH);
    assert_eq!(ground.server.requests().of("patch", Resource::Classes), 0);
}
