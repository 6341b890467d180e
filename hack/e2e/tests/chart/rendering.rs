//! What Helm makes of the chart.

use simulated_node::{chart, definitions, helm, plain_manifests};

use crate::schemas::render;

#[test]
fn the_chart_lints() {
    let said = helm(&["lint", "--strict", chart().unwrap().to_str().unwrap()]).unwrap();
    assert!(said.contains("0 chart(s) failed"), "{said}");
}

#[test]
fn the_definitions_are_those_of_the_api() {
    let (path, wanted) = definitions().unwrap();
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, wanted, "{}; run: cargo xtask manifests", path.display());
    // A release that goes leaves them, and the policies with them.
    assert_eq!(wanted.matches("helm.sh/resource-policy: keep").count(), 2);
}

#[test]
fn the_controller_has_no_privilege_and_can_be_left_out() {
    let rendered = render(&[]).unwrap();
    let deployment = rendered.split("\n---\n").find(|document| document.contains("kind: Deployment")).unwrap();
    for line in
        ["runAsNonRoot: true", "readOnlyRootFilesystem: true", "drop: [ALL]", "type: RuntimeDefault", "replicas: 2"]
    {
        assert!(deployment.contains(line), "{line}");
    }
    let without = render(&["controller.enabled=false"]).unwrap();
    assert!(!without.contains("tessera-controller") && without.contains("name: partitionpolicies.tessera.dev"));
    let domains = "name: tessera-controller-domains";
    assert!(rendered.contains(domains) && !render(&["controller.domains.enabled=false"]).unwrap().contains(domains));
    let one = render(&["controller.replicas=1"]).unwrap();
    assert!(!one.contains("PodDisruptionBudget"), "one that is needed would keep a node from being drained");
}

#[test]
fn the_plain_manifests_are_what_the_chart_renders() {
    for (directory, wanted) in plain_manifests().unwrap() {
        let there: Vec<_> = std::fs::read_dir(&directory).unwrap().flatten().collect();
        assert_eq!(there.len(), wanted.len(), "{}; run: cargo xtask manifests", directory.display());
        for (name, text) in wanted {
            let found = std::fs::read_to_string(directory.join(&name)).unwrap_or_default();
            assert_eq!(found, text, "{name}; run: cargo xtask manifests");
        }
    }
}

#[test]
fn values_that_make_no_sense_are_refused_by_name() {
    for (setting, told) in [
        ("drivers.serve={amd}", "/drivers/serve/0"),
        ("drivers.nvidia.name=GPU_", "/drivers/nvidia/name"),
        ("offer={partition}", "/offer/0"),
        ("api=both-of-them", "/api"),
        ("deviceApi={gpu-0}", "/deviceApi/0"),
        ("devicePlugin.migStrategy=both", "/devicePlugin/migStrategy"),
        ("featureLabels.way=patch", "/featureLabels/way"),
        ("nodeLayouts=maybe", "/nodeLayouts"),
        ("agent.rescan=0", "/agent/rescan"),
        ("agent.log.format=xml", "/agent/log/format"),
        ("agent.image.digest=sha256:12", "/agent/image/digest"),
        ("agent.host.root=host", "/agent/host/root"),
        ("agent.privileged=maybe", "/agent/privileged"),
        ("kubernetes.serviceHost=10.0.0.1", "/kubernetes/servicePort"),
        ("drivers.tpu.topology=4by4", "/drivers/tpu/topology"),
        ("networkPolicy.apiServerPorts={}", "/networkPolicy/apiServerPorts"),
        ("admission.webhook.failurePolicy=fail", "/admission/webhook/failurePolicy"),
        ("admission.webhook.timeoutSeconds=31", "/admission/webhook/timeoutSeconds"),
        ("admission.privilegedConfigs.namespaceLabel=a/b/c", "/admission/privilegedConfigs/namespaceLabel"),
        ("agent.imagee.tag=1", "imagee"),
        ("contoller.enabled=true", "contoller"),
        ("controller.replicas=0", "/controller/replicas"),
        ("controller.leaseSeconds=1", "/controller/leaseSeconds"),
        ("controller.domains.enabled=maybe", "/controller/domains/enabled"),
    ] {
        let error = render(&[setting]).unwrap_err().to_string();
        assert!(error.contains(told), "{setting}: {error}");
    }
}

#[test]
fn privilege_is_given_only_where_nvml_is_opened() {
    // And the node's /dev with it.
    for (settings, privileged, dev) in [
        (&[][..], true, 1),
        (&["drivers.serve={nvidia}"], true, 1),
        (&["drivers.serve={tpu}"], false, 0),
        (&["drivers.serve={tpu}", "agent.privileged=true"], true, 0),
        (&["agent.privileged=false", "agent.runtimeClassName=nvidia"], false, 0),
    ] {
        let rendered = render(&[settings, &["controller.enabled=false"]].concat()).unwrap();
        assert_eq!(rendered.contains("privileged: true"), privileged, "{settings:?}");
        // Of the init container, and of the agent where it is not privileged.
        let confined = if privileged { 1 } else { 2 };
        for line in ["allowPrivilegeEscalation: false", "drop:"] {
            assert_eq!(rendered.matches(line).count(), confined, "{settings:?}: {line}");
        }
        assert_eq!(rendered.matches("readOnlyRootFilesystem: true").count(), 2, "{settings:?}");
        assert_eq!(rendered.matches("mountPath: /dev\n").count(), dev, "{settings:?}");
    }
}

#[test]
fn what_is_served_by_count_is_not_served_by_claims_under_the_same_name() {
    for (setting, served) in [("api=dra", 2), ("api=both", 0), ("api=device-plugin", 0)] {
        assert_eq!(
            render(&[setting, "controller.enabled=false"]).unwrap().matches("extendedResourceName: ").count(),
            served,
            "{setting}"
        );
    }
}

#[test]
fn rights_are_given_with_the_flags_that_need_them() {
    for (setting, given) in [
        ("api=both", None),
        ("featureLabels.way=file", None),
        ("featureLabels.way=node", Some("name: tessera-agent-feature-labels")),
        ("featureLabels.way=node-feature", Some("resources: [nodefeatures]")),
        ("nodeLayouts=true", Some("name: tessera-agent-node-layouts")),
        // Not set: the controller is there, which writes them.
        ("nodeLayouts=null", Some("name: tessera-agent-node-layouts")),
        ("devicePlugin.configMap=mine", Some("name: tessera-agent-config-by-label")),
        ("devicePlugin.configs.shared.version=v1", Some("name: tessera-agent-config-by-label")),
    ] {
        let rendered = render(&["nodeLayouts=false", setting]).unwrap();
        for right in [
            "name: tessera-agent-feature-labels",
            "resources: [nodefeatures]",
            "name: tessera-agent-config-by-label",
            "name: tessera-agent-node-layouts",
        ] {
            let wanted =
                given == Some(right) || (setting.ends_with("node-feature") && right.ends_with("feature-labels"));
            assert_eq!(rendered.contains(right), wanted, "{setting}: {right}");
        }
    }
}

#[test]
fn what_is_judged_follows_the_drivers_and_the_values() {
    let webhook = "admission.webhook.enabled=true";
    let rendered = render(&[webhook, "drivers.serve={tpu}", "drivers.tpu.name=tpu.example.com"]).unwrap();
    assert_eq!(rendered.matches("it.opaque.driver in ['tpu.example.com']").count(), 2, "configs and classes");
    assert!(rendered.contains("it.opaque.driver.lowerAscii() in ['tpu.example.com']"));
    for (settings, told) in [
        (&[webhook][..], "failurePolicy: Ignore\n    timeoutSeconds: 3\n"),
        (&[webhook, "admission.webhook.failurePolicy=Fail"], "failurePolicy: Fail\n    timeoutSeconds: 3\n"),
        (&[webhook, "admission.webhook.exemptNamespaces={a,b}"], "values:\n            - a\n            - b\n"),
        (
            &["admission.privilegedConfigs.namespaceLabel=example.com/vms"],
            "labels[?'example.com/vms'].orValue('') == 'true'",
        ),
    ] {
        assert!(render(settings).unwrap().contains(told), "{settings:?}: {told}");
    }
    for (settings, name, there) in [
        (&[][..], "configs.admission.tessera.dev", true),
        (&["controller.enabled=false"], "configs.admission.tessera.dev", false),
        (&["admission.webhook.enabled=false"], "kind: Secret", false),
        (&[webhook], "configs.admission.tessera.dev", true),
        (&[webhook, "admission.webhook.exemptNamespaces=null"], "namespaceSelector:", false),
        (&["admission.privilegedConfigs.enabled=false"], "tessera-privileged-", false),
        (&[], "name: tessera-privileged-classes", true),
    ] {
        assert_eq!(render(settings).unwrap().contains(name), there, "{settings:?}: {name}");
    }
}

#[test]
fn a_driver_that_is_renamed_is_renamed_everywhere() {
    let rendered = render(&["drivers.nvidia.name=gpu.example.com", "rbac.claimStatus=true"]).unwrap();
    assert!(!rendered.contains("'gpu.nvidia.com'"));
    for text in [
        "device.driver == 'gpu.example.com' && device.attributes['gpu.example.com'].type == 'gpu'",
        "variables.slice.spec.driver in ['gpu.example.com', 'tpu.google.com']",
        "resourceNames: ['gpu.example.com', 'tpu.google.com']",
        "value: \"gpu.example.com\"",
    ] {
        assert!(rendered.contains(text), "{text}");
    }
    let tpu = render(&["drivers.serve={tpu}"]).unwrap();
    assert!(tpu.contains("name: tpu.google.com") && !tpu.contains("name: gpu.nvidia.com"));
}
