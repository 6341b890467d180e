//! What the parts of a prepare cost by themselves: nothing that prepares a claim can be faster than their sum.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use k8s_openapi::api::resource::v1::ResourceClaim;
use kube::Api;
use tessera_kubelet_api::dra_v1::NodePrepareResourcesRequest;
use testkit::Plugin;

use crate::client::client;

/// Where [`testkit::Claim`] puts claims.
pub(crate) const NAMESPACE: &str = "team";

/// The parts, ready to be called.
pub(crate) struct Floors {
    plugin: Plugin,
    claims: Api<ResourceClaim>,
    directory: PathBuf,
    content: Vec<u8>,
}

impl Floors {
    /// `content` is what a CDI file holds.
    pub(crate) async fn new(plugin: &Plugin, kubeconfig: &Path, directory: PathBuf, content: Vec<u8>) -> Result<Self> {
        let claims = Api::namespaced(client(kubeconfig).await?, NAMESPACE);
        Ok(Self { plugin: plugin.clone(), claims, directory, content })
    }

    /// A call of the same method for no claim.
    pub(crate) async fn call(&self) -> Result<()> {
        self.plugin.v1().node_prepare_resources(NodePrepareResourcesRequest::default()).await?;
        Ok(())
    }

    /// One GET of a claim, by the client that the agent uses.
    pub(crate) async fn get(&self, name: &str) -> Result<()> {
        self.claims.get(name).await?;
        Ok(())
    }

    /// One create and rename.
    pub(crate) fn file(&self) -> Result<()> {
        let (aside, file) = (self.directory.join(".floor.tmp"), self.directory.join("floor.floor"));
        fs::write(&aside, &self.content)?;
        fs::rename(aside, file)?;
        Ok(())
    }
}
