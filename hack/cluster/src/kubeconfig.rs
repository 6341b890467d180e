//! Kubeconfig files.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::json;

/// A user as the API server sees it, for a kubeconfig that acts as that user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// For example `system:serviceaccount:default:default`.
    pub user: String,
    /// For example `system:serviceaccounts`.
    pub groups: Vec<String>,
    /// For example `authentication.kubernetes.io/node-name`, which the token of a pod's service account carries.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// A service account, with the groups that its tokens carry.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self {
            user: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
            extra: BTreeMap::new(),
        }
    }

    /// The same, as a token that is bound to a pod on `node` says it.
    #[must_use]
    pub fn on_node(mut self, node: &str) -> Self {
        self.extra.insert("authentication.kubernetes.io/node-name".to_owned(), vec![node.to_owned()]);
        self
    }
}

/// A kubeconfig in JSON, which every reader of YAML takes.
pub(crate) fn kubeconfig(
    authority: &[u8],
    address: &str,
    token: &str,
    acting_as: Option<&Identity>,
) -> Result<Vec<u8>> {
    let mut user = json!({ "token": token });
    if let Some(identity) = acting_as {
        user["as"] = json!(identity.user);
        user["as-groups"] = json!(identity.groups);
        user["as-user-extra"] = json!(identity.extra);
    }
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "cluster", "cluster": {
            "server": format!("https://{address}:6443"),
            "certificate-authority-data": base64(authority),
        }}],
        "users": [{ "name": "user", "user": user }],
        "contexts": [{ "name": "cluster", "context": { "cluster": "cluster", "user": "user", "namespace": "default" } }],
        "current-context": "cluster",
    });
    Ok(serde_json::to_vec_pretty(&config)?)
}

/// Standard base64 with padding. The one use of it in this crate is not worth a dependency.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, &byte| group << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let digit = DIGITS[(group >> (18 - 6 * index) & 63) as usize];
            text.push(if index <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_every_length_of_a_last_group() {
        for (bytes, wanted) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(bytes.as_bytes()), wanted);
        }
    }

    #[test]
    fn an_identity_acts_and_the_admin_does_not() {
        let plain: serde_json::Value =
            serde_json::from_slice(&kubeconfig(b"ca", "10.0.0.1", "t", None).unwrap()).unwrap();
        assert_eq!(plain["users"][0]["user"], json!({ "token": "t" }));
        let agent = Identity::service_account("a", "b").on_node("n");
        let acting: serde_json::Value =
            serde_json::from_slice(&kubeconfig(b"ca", "10.0.0.1", "t", Some(&agent)).unwrap()).unwrap();
        assert_eq!(acting["users"][0]["user"]["as"], "system:serviceaccount:a:b");
        let extra = &acting["users"][0]["user"]["as-user-extra"];
        assert_eq!(extra["authentication.kubernetes.io/node-name"], json!(["n"]));
    }
}
