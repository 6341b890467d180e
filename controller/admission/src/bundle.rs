use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use serde_json::{Value, json};

/// The patch after which the API servers trust exactly these CAs for every webhook of a configuration, if one is needed:
/// whoever installs the configuration anew does so without them. A strategic merge, since others own the rest; it fails
/// where somebody was faster, and then there is another look.
pub(crate) fn correction(configuration: &ValidatingWebhookConfiguration, bundle: &str) -> Option<Value> {
    let bundle = ByteString(bundle.as_bytes().to_vec());
    let wrong = |hook: &&k8s_openapi::api::admissionregistration::v1::ValidatingWebhook| {
        hook.client_config.ca_bundle.as_ref() != Some(&bundle)
    };
    let hooks: Vec<_> = configuration
        .webhooks
        .iter()
        .flatten()
        .filter(wrong)
        .map(|hook| json!({"name": hook.name, "clientConfig": {"caBundle": bundle}}))
        .collect();
    let version = &configuration.metadata.resource_version;
    (!hooks.is_empty()).then(|| json!({"metadata": {"resourceVersion": version}, "webhooks": hooks}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_webhook_without_the_bundle_gets_it_and_nothing_else_changes() {
        let configuration = |bundles: [Option<&str>; 2]| {
            let hook = |(index, bundle): (usize, &Option<&str>)| {
                let mut config = json!({"service": {"name": "a", "namespace": "b"}});
                if let Some(bundle) = bundle {
                    config["caBundle"] = json!(ByteString(bundle.as_bytes().to_vec()));
                }
                json!({"name": format!("{index}.tessera.dev"), "clientConfig": config, "sideEffects": "None",
                       "admissionReviewVersions": ["v1"]})
            };
            let hooks: Vec<_> = bundles.iter().enumerate().map(hook).collect();
            serde_json::from_value(json!({"metadata": {"name": "a", "resourceVersion": "7"}, "webhooks": hooks}))
                .unwrap()
        };
        let patch = |names: &[&str]| {
            let hook = |name: &&str| json!({"name": name, "clientConfig": {"caBundle": "bmV3"}});
            json!({"metadata": {"resourceVersion": "7"}, "webhooks": names.iter().map(hook).collect::<Vec<_>>()})
        };
        for (bundles, wanted) in [
            ([Some("new"), Some("new")], None),
            ([None, None], Some(patch(&["0.tessera.dev", "1.tessera.dev"]))),
            ([Some("new"), Some("old")], Some(patch(&["1.tessera.dev"]))),
            ([Some(""), Some("new")], Some(patch(&["0.tessera.dev"]))),
        ] {
            assert_eq!(correction(&configuration(bundles), "new"), wanted, "{bundles:?}");
        }
    }
}
