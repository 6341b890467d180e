//! An API server for the few calls that a node agent or the controller makes, over plain HTTP on the loopback interface.
//!
//! What it stores, it stores as the real one does: resource versions grow over all objects, a stale one is a conflict,
//! a write that changes nothing is none. It checks nothing else about the objects.

mod answer;
mod apply;
mod faults;
mod objects;
mod requests;
mod routes;
mod selector;
mod watch;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::sync::watch as notify;

pub use faults::Fault;
pub use objects::Resource;
use objects::{Key, Objects};
pub use requests::Requests;

use crate::runtime;

/// So many connections may wait to be taken.
const BACKLOG: u32 = 1024;

/// A running API server. It ends when dropped, and every connection with it.
pub struct ApiServer {
    address: SocketAddr,
    /// Holds the port while nobody listens: what connects is refused meanwhile, and no other test is given it.
    _port: TcpSocket,
    shared: Shared,
    serving: Option<Runtime>,
}

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Shared {
    state: Arc<Mutex<State>>,
    /// Tells the watches that something was written.
    written: notify::Sender<u64>,
    /// Tells the requests that are held that they may go on.
    released: notify::Sender<()>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) objects: Objects,
    pub(crate) requests: Requests,
    pub(crate) faults: faults::Faults,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the objects and wakes the watches.
    pub(crate) fn write<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let result = change(&mut state);
        self.written.send_replace(state.objects.revision());
        result
    }
}

impl ApiServer {
    /// Starts one on a free port.
    pub fn start() -> Self {
        let shared = Shared { state: Arc::default(), written: notify::channel(0).0, released: notify::channel(()).0 };
        let port = socket((Ipv4Addr::LOCALHOST, 0).into());
        let address = port.local_addr().expect("a port");
        let mut server = Self { address, _port: port, shared, serving: None };
        server.come_back();
        server
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Writes a kubeconfig that leads to it.
    pub fn write_kubeconfig(&self, path: &Path) {
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "stand-in",
            "clusters": [{"name": "stand-in", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "agent", "user": {}}],
            "contexts": [{"name": "stand-in", "context": {"cluster": "stand-in", "user": "agent"}}],
        });
        std::fs::write(path, config.to_string()).unwrap();
    }

    /// Drops every connection and refuses new ones, from when it returns. What is stored stays.
    pub fn go_away(&mut self) {
        if let Some(serving) = self.serving.take() {
            runtime::end(serving);
        }
    }

    /// Serves again, on the same port.
    pub fn come_back(&mut self) {
        let runtime = runtime::begin();
        let router = routes::router(self.shared.clone());
        let listener = {
            let _inside = runtime.enter();
            socket(self.address).listen(BACKLOG).expect("a port that nobody else listens on")
        };
        runtime.spawn(async move { axum::serve(listener, router).await });
        self.serving = Some(runtime);
    }

    /// Stores an object as a person or a controller would; its UID is kept if it has one. Says what was stored.
    pub fn put(&self, resource: Resource, object: Value) -> Value {
        self.shared.write(|state| state.objects.put(resource, object))
    }

    /// Stores a Node object.
    pub fn put_node(&self, name: &str, uid: &str) {
        self.put(Resource::Nodes, json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": uid}}));
    }

    /// An object, if it is there.
    pub fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<Value> {
        self.shared.state().objects.get(&Key::new(resource, namespace, name)).cloned()
    }

    /// Changes an object in its place.
    ///
    /// # Panics
    /// If it is not there.
    pub fn edit(&self, resource: Resource, namespace: &str, name: &str, edit: impl FnOnce(&mut Value)) {
        assert!(self.edit_if_there(resource, namespace, name, edit), "no object {name} to edit");
    }

    /// The same, if it is there; says whether it is.
    pub fn edit_if_there(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        edit: impl FnOnce(&mut Value),
    ) -> bool {
        self.shared.write(|state| {
            let Some(mut object) = state.objects.get(&Key::new(resource, namespace, name)).cloned() else {
                return false;
            };
            edit(&mut object);
            state.objects.put(resource, object);
            true
        })
    }

    /// Deletes an object if it is there.
    pub fn delete(&self, resource: Resource, namespace: &str, name: &str) {
        self.shared.write(|state| state.objects.delete(&Key::new(resource, namespace, name)));
    }

    /// Deletes every slice of a node, as a kubelet does that starts.
    pub fn wipe_slices(&self, node: &str) {
        self.shared.write(|state| {
            for slice in
                state.objects.list(Resource::Slices).into_iter().filter(|slice| slice["spec"]["nodeName"] == node)
            {
                state.objects.delete(&Key::of(Resource::Slices, &slice));
            }
        });
    }

    /// Every slice, by name.
    pub fn slices(&self) -> Vec<Value> {
        self.shared.state().objects.list(Resource::Slices)
    }

    /// Every object of a kind, by name.
    pub fn list(&self, resource: Resource) -> Vec<Value> {
        self.shared.state().objects.list(resource)
    }

    /// Deletes an object as a person does: what has finalizers ends when these are gone.
    pub fn ask_to_delete(&self, resource: Resource, namespace: &str, name: &str) {
        // It may be gone already.
        let _ = self.shared.write(|state| state.objects.delete_if(&Key::new(resource, namespace, name), &Value::Null));
    }

    /// Reason and note of every event.
    pub fn events(&self) -> Vec<(String, String)> {
        let field = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let events = self.shared.state().objects.list(Resource::Events);
        events.iter().map(|event| (field(event, "reason"), field(event, "note"))).collect()
    }

    /// The requests that have come in since the start, or since [`ApiServer::forget_requests`].
    pub fn requests(&self) -> Requests {
        self.shared.state().requests.clone()
    }

    /// Counts requests from 0 again.
    pub fn forget_requests(&self) {
        self.shared.state().requests = Requests::default();
    }

    /// Forgets the events so far, as the real one does after minutes: an older watch is told 410.
    pub fn compact(&self) {
        self.shared.state().objects.compact();
    }

    /// Does something wrong with the next `times` requests about a resource.
    pub fn fail(&self, resource: Resource, times: usize, fault: Fault) {
        self.shared.state().faults.add(None, resource, times, fault);
    }

    /// The same, only with requests of a verb such as `list`.
    pub fn fail_verb(&self, verb: &str, resource: Resource, times: usize, fault: Fault) {
        self.shared.state().faults.add(Some(verb), resource, times, fault);
    }

    /// Refuses to store slices of a driver, as an admission policy may.
    pub fn refuse_slices_of(&self, driver: &str) {
        self.shared.state().faults.refuse_slices_of(driver);
    }

    /// Ends what [`ApiServer::fail`] and [`ApiServer::refuse_slices_of`] began; what is held goes on.
    pub fn fail_no_more(&self) {
        self.shared.state().faults.clear();
        self.shared.released.send_replace(());
    }

    /// Drops a field of devices, and of DeviceClasses, wherever one is written, as a server does whose gate for it is off.
    pub fn drop_device_field(&self, field: &str) {
        self.shared.state().objects.drop_device_field(field);
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.go_away();
    }
}

/// A socket with an address that may have several of this process, of which one may listen. The kernel gives a free port
/// to nobody else as long as there is one.
fn socket(address: SocketAddr) -> TcpSocket {
    let bound = TcpSocket::new_v4().and_then(|socket| {
        socket.set_reuseaddr(true)?;
        socket.set_reuseport(true)?;
        socket.bind(address).map(|()| socket)
    });
    bound.unwrap_or_else(|error| panic!("{address}: {error}"))
}
