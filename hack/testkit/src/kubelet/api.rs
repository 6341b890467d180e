//! The kubelet's own requests to the API server. It names itself, so that the stand-in neither counts them nor lets them
//! use up faults that are meant for the agent.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::claim_infos::{Allocated, Key};
use super::problem::Problem;
use crate::PATIENCE;

/// How it names itself.
pub(crate) const USER_AGENT: &str = "stand-in-kubelet";

/// The API server and the node that is this kubelet's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Where the API server listens.
    pub api: SocketAddr,
    /// The name of the Node object.
    pub node: String,
}

impl Cluster {
    /// Whether the node's object can be read.
    pub(super) async fn knows_node(&self) -> bool {
        matches!(self.call("GET", &format!("/api/v1/nodes/{}", self.node)).await, Ok((200, _)))
    }

    /// Deletes the slices of the node, all or those of a driver.
    pub(super) async fn wipe_slices(&self, driver: Option<&str>) -> Result<(), String> {
        let of_driver = driver.map(|driver| format!("%2Cspec.driver%3D{driver}")).unwrap_or_default();
        let selector = format!("spec.nodeName%3D{}{of_driver}", self.node);
        let path = format!("/apis/resource.k8s.io/v1/resourceslices?fieldSelector={selector}");
        match self.call("DELETE", &path).await? {
            (200 | 404, _) => Ok(()),
            (code, _) => Err(format!("status {code}")),
        }
    }

    /// A claim, if it is allocated.
    pub(super) async fn claim(&self, key: &Key) -> Result<Allocated, Problem> {
        let (namespace, name) = key;
        let unreadable = |reason| Problem::Unreadable { claim: name.clone(), reason };
        let path = format!("/apis/resource.k8s.io/v1/namespaces/{namespace}/resourceclaims/{name}");
        let (code, claim) = self.call("GET", &path).await.map_err(unreadable)?;
        if code != 200 {
            return Err(unreadable(format!("status {code}")));
        }
        let allocation = &claim["status"]["allocation"];
        if allocation.is_null() {
            return Err(Problem::NotAllocated(name.clone()));
        }
        let uid = claim["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let mut drivers = std::collections::BTreeMap::<String, Vec<String>>::new();
        for result in allocation["devices"]["results"].as_array().into_iter().flatten() {
            let field = |name: &str| result[name].as_str().unwrap_or_default();
            // A subrequest is written behind the request that it stands for.
            let request = field("request").split('/').next().unwrap_or_default().to_owned();
            drivers.entry(field("driver").to_owned()).or_default().push(request);
        }
        Ok(Allocated { key: key.clone(), uid, drivers })
    }

    /// Status and body.
    async fn call(&self, method: &str, path: &str) -> Result<(u16, Value), String> {
        let exchange = async {
            let mut connection = TcpStream::connect(self.api).await?;
            let head = format!(
                "{method} {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {USER_AGENT}\r\nConnection: close\r\n\r\n",
                self.api
            );
            connection.write_all(head.as_bytes()).await?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| "no answer".to_owned())?;
        let answer = answer.map_err(|error| error.to_string())?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("half an answer")?;
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("no status")?;
        Ok((code, serde_json::from_str(body).unwrap_or_default()))
    }
}
