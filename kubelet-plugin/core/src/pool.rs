use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tessera_vocabulary::DriverName;

/// The node that the agent runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    /// The name of the Node object.
    pub name: String,
    /// Its UID: another one after the object was deleted and made anew.
    pub uid: String,
}

/// The one pool of a driver on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Whose devices are in it.
    pub driver: DriverName,
    /// Where they are.
    pub node: NodeIdentity,
}

impl Pool {
    /// `<node>/<driver>`. Not the node's name alone: schedulers up to 1.36.3 keep counters by the name of the pool
    /// only, so that two drivers with pools of one name would mix them up.
    pub fn name(&self) -> String {
        pool_name(&self.node.name, &self.driver)
    }

    /// The name of a slice object. The scheduler takes the slices of a pool in the order of their names.
    pub fn slice_name(&self, index: usize) -> String {
        format!("{}-{}-{index:03}", self.node.name, self.driver)
    }

    /// The owner of the slices: they go when the Node object goes.
    pub fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: self.node.name.clone(),
            uid: self.node.uid.clone(),
            controller: Some(true),
            ..OwnerReference::default()
        }
    }
}

/// The name of a driver's pool on a node, for those who do not know the node's UID.
pub fn pool_name(node: &str, driver: &DriverName) -> String {
    format!("{node}/{driver}")
}
