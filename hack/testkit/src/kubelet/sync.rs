//! What the kubelet does for a pod before its sandbox is made and after its containers have ended.

use std::collections::BTreeMap;
use std::time::Instant;

use tessera_kubelet_api::dra_v1;
use tonic::Status;

use super::active_pods::ActivePod;
use super::answers::{self, Asked};
use super::claim_infos::{Allocated, Key};
use super::connection::State;
use super::journal::{Call, Operation};
use super::life::Life;
use super::plugin::Plugin;
use super::plugins::{Entry, Service};
use super::pod::{Pod, PreparedClaim};
use super::problem::Problem;

impl Life {
    /// Before a new sandbox. The first problem ends it, and the next try begins from the beginning.
    pub(super) async fn prepare(&self, pod: &Pod) -> Result<Vec<PreparedClaim>, Problem> {
        let cluster = self.settings.cluster.as_ref().expect("a kubelet with an API server");
        let mut claims: Vec<Allocated> = Vec::new();
        for wanted in &pod.claims {
            claims.push(cluster.claim(&(pod.namespace.clone(), wanted.name.clone())).await?);
        }
        // Also for what is prepared already.
        for driver in claims.iter().flat_map(|claim| claim.drivers.keys()) {
            self.plugin(driver).ok_or_else(|| Problem::NotRegistered(driver.clone()))?;
        }
        // Written down before any call, so that whatever a driver begins is undone some day.
        self.change_claims(|infos| infos.reserve(&pod.uid, &claims))?;
        self.list(pod);
        let mut batches: Vec<_> = self.claims().to_prepare(&claims).into_iter().collect();
        // As Go walks a map.
        self.shuffle(&mut batches);
        for (driver, asked) in batches {
            let devices = self.ask_to_prepare(&driver, &asked).await?;
            self.change_claims(|infos| infos.answered(&driver, devices));
            self.list(pod);
        }
        Ok(self.change_claims(|infos| infos.prepared(&claims)))
    }

    /// After the end of the containers, from the checkpoint alone.
    pub(super) async fn unprepare(&self, pod: &str, named: &[Key]) -> Result<(), Problem> {
        let (keys, batches) = self.change_claims(|infos| infos.release(pod, named));
        let mut batches: Vec<_> = batches.into_iter().collect();
        self.shuffle(&mut batches);
        for (driver, asked) in batches {
            self.ask_to_unprepare(&driver, &asked).await?;
        }
        self.change_claims(|infos| infos.unprepared(&keys));
        Ok(())
    }

    /// Tells pod resources what is known of an active pod, which may be half of it.
    pub(super) fn list(&self, pod: &Pod) {
        let infos = self.claims();
        let of_container = pod.claims.iter().filter(|claim| claim.in_container);
        let listed = of_container.fold(ActivePod::new(&pod.name).namespace(&pod.namespace), |listed, claim| {
            let Some(info) = infos.by_key.get(&(pod.namespace.clone(), claim.name.clone())) else { return listed };
            let drivers = info.drivers.iter().map(|(driver, state)| (driver.clone(), state.devices.clone()));
            listed.claim_of_drivers(&pod.namespace, &claim.name, drivers.collect())
        });
        self.pod_resources.list(listed);
    }

    async fn ask_to_prepare(
        &self,
        driver: &str,
        asked: &[Asked],
    ) -> Result<BTreeMap<String, Vec<dra_v1::Device>>, Problem> {
        let plugin = self.plugin(driver).ok_or_else(|| Problem::NotRegistered(driver.to_owned()))?;
        let service = plugin.service;
        let answers = self.call(&plugin, Operation::Prepare, asked, async |connected, claims| match service {
            Service::V1 => connected.prepare_by_v1(claims).await,
            Service::V1Beta1 => connected.prepare_by_v1beta1(claims).await,
        });
        answers::prepared(driver, asked, answers.await?)
    }

    async fn ask_to_unprepare(&self, driver: &str, asked: &[Asked]) -> Result<(), Problem> {
        let plugin = self.plugin(driver).ok_or_else(|| Problem::NotRegistered(driver.to_owned()))?;
        let service = plugin.service;
        let answers = self.call(&plugin, Operation::Unprepare, asked, async |connected, claims| match service {
            Service::V1 => connected.unprepare_by_v1(claims).await,
            Service::V1Beta1 => connected.unprepare_by_v1beta1(claims).await,
        });
        answers::unprepared(driver, asked, answers.await?)
    }

    /// Makes a call over a plugin's lasting connection and takes it down.
    async fn call<T>(
        &self,
        plugin: &Entry,
        operation: Operation,
        asked: &[Asked],
        send: impl AsyncFnOnce(Plugin, Vec<dra_v1::Claim>) -> Result<T, Status>,
    ) -> Result<T, Problem> {
        let claims = asked.iter().map(|claim| dra_v1::Claim {
            namespace: claim.namespace.clone(),
            uid: claim.uid.clone(),
            name: claim.name.clone(),
        });
        let begun = Instant::now();
        let answer = match connected(plugin).await {
            Ok(connected) => send(connected, claims.collect()).await,
            Err(status) => Err(status),
        };
        self.journal.write().calls.push(Call {
            driver: plugin.driver.clone(),
            endpoint: plugin.endpoint.clone(),
            operation,
            claims: asked.iter().map(|claim| claim.uid.clone()).collect(),
            took: begun.elapsed(),
            error: answer.as_ref().err().map(Status::to_string),
        });
        answer.map_err(|status| Problem::Call { driver: plugin.driver.clone(), status })
    }
}

/// As grpc-go: a call waits while the connection is being made, and fails at once after that failed.
async fn connected(plugin: &Entry) -> Result<Plugin, Status> {
    let mut connection = plugin.connection.clone();
    let state = connection.wait_for(|state| !matches!(state, State::Connecting)).await.map(|state| state.clone());
    match state {
        Ok(State::Ready(channel)) => Ok(Plugin::over(channel)),
        Ok(_) => Err(Status::unavailable(format!("connection error: {}", plugin.endpoint.display()))),
        Err(_) => Err(Status::cancelled("grpc: the client connection is closing")),
    }
}
