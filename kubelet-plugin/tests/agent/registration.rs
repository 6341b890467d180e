//! The way to the kubelet: sockets and registration.

use std::path::Path;
use std::time::Duration;

use prost::Message;
use tessera_kubelet_api::registration::registration_server::{Registration, RegistrationServer};
use tessera_kubelet_api::registration::{InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse};
use testkit::kubelet::Answer;
use testkit::raw::{self, Outcome};
use testkit::{Kubelet, Node};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::{AGENT, node};

const GET_INFO: &str = "/pluginregistration.Registration/GetInfo";
const REGISTRATION: &str = "plugins_registry/gpu.nvidia.com-reg@kubelet.sock";
const DRA: &str = "plugins/gpu.nvidia.com/dra@kubelet.sock";

/// As the kubelet dials: with the percent-encoded path as authority.
async fn get_info(socket: &Path) -> Outcome {
    let authority = raw::authority_of_path(socket);
    assert!(authority.starts_with("%2F"), "{authority}");
    raw::call(socket, &authority, GET_INFO, &InfoRequest {}.encode_to_vec(), testkit::PATIENCE).await.unwrap()
}

/// A plugin by the book, but for the `@`.
struct Plain;

#[tonic::async_trait]
impl Registration for Plain {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(PluginInfo { name: "plain".to_owned(), ..PluginInfo::default() }))
    }

    async fn notify_registration_status(
        &self,
        _: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

#[tokio::test]
async fn the_kubelets_authority_is_served_thanks_to_the_at_sign() {
    let (node, _plugin) = node().await;
    let Outcome::Answered { status: 0, message, .. } = get_info(&node.kubelet_dir().join(REGISTRATION)).await else {
        panic!("the agent does not serve the kubelet");
    };
    let info = PluginInfo::decode(message.as_slice()).unwrap();
    insta::assert_snapshot!(node.anonymous(&format!("{info:#?}")));

    // The same call to sockets of the same server library: it is the name of the file that decides.
    for (name, served) in [("plain-reg.sock", false), ("plain-reg@kubelet.sock", true)] {
        let path = node.path(name);
        let connections = UnixListenerStream::new(UnixListener::bind(&path).unwrap());
        let server = Server::builder().add_service(RegistrationServer::new(Plain)).serve_with_incoming(connections);
        let serving = tokio::spawn(server);
        let outcome = get_info(&path).await;
        serving.abort();
        match served {
            true => assert!(matches!(outcome, Outcome::Answered { status: 0, .. }), "{name}: {outcome:?}"),
            false => assert_eq!(outcome, Outcome::Reset(raw::PROTOCOL_ERROR), "{name}"),
        }
    }
}

#[tokio::test]
async fn another_kubelet_process_finds_the_agent_too() {
    let (mut node, _plugin) = node().await;
    let first = node.kubelet().registration(1, testkit::PATIENCE).await;
    node.start_kubelet(Answer::Confirm);
    assert_eq!(node.kubelet().registration(1, testkit::PATIENCE).await, first);
    node.kubelet().plugin().await;
}

/// Takes 30 seconds, which is how long the agent waits for the kubelet.
#[tokio::test]
async fn a_registration_that_is_not_confirmed_is_offered_again() {
    let mut node = Node::new(AGENT, "dgx-h100");
    let forgetful = Kubelet::start(&node.kubelet_dir(), Answer::Nothing);
    node.start_agent(&[]);
    forgetful.registration(1, testkit::PATIENCE).await;
    let second = forgetful.registration(2, Duration::from_secs(30) + testkit::PATIENCE).await;
    assert_eq!(second.socket, node.kubelet_dir().join(REGISTRATION));
    drop(forgetful);
    node.start_kubelet(Answer::Confirm);
    node.wait("/readyz", |node| node.http("/readyz").filter(|(status, _)| *status == 200)).await;
    node.kubelet().plugin().await;
}

#[tokio::test]
async fn a_refusal_is_logged_and_survived() {
    let mut node = Node::new(AGENT, "dgx-h100");
    node.start_kubelet(Answer::Refuse("no room".to_owned()));
    node.start_agent(&[]);
    node.wait("the refusal in the log", |node| node.log().contains("no room").then_some(())).await;
    assert_eq!(node.http("/readyz").unwrap().0, 503);
    assert!(node.agent().ended().is_none());
}

#[tokio::test]
async fn the_end_takes_both_sockets_along() {
    let (mut node, _plugin) = node().await;
    let sockets = [REGISTRATION, DRA].map(|socket| node.kubelet_dir().join(socket));
    assert!(sockets.iter().all(|socket| socket.exists()));
    assert_eq!(node.stop().await.code(), Some(0));
    assert!(sockets.iter().all(|socket| !socket.exists()));
}

#[tokio::test]
async fn what_a_killed_agent_left_is_replaced() {
    let (mut node, _plugin) = node().await;
    node.kill().await;
    assert!(node.kubelet_dir().join(REGISTRATION).exists());
    node.start().await;
    assert_eq!(node.kubelet().registrations().len(), 2);
}

#[tokio::test]
async fn only_root_may_connect() {
    use std::os::unix::fs::PermissionsExt;
    let (node, _plugin) = node().await;
    for socket in [REGISTRATION, DRA] {
        let mode = node.kubelet_dir().join(socket).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{socket}");
    }
}

#[tokio::test]
async fn a_place_that_cannot_be_used_is_told() {
    let mut node = Node::new(AGENT, "dgx-h100");
    let long = format!("{}/{}", node.path("k").display(), "x".repeat(100));
    std::fs::create_dir_all(format!("{long}/plugins_registry")).unwrap();
    let (occupied, file) = (node.path("occupied"), node.path("file"));
    std::fs::create_dir_all(occupied.join("plugins_registry")).unwrap();
    std::fs::write(occupied.join(REGISTRATION), "a file").unwrap();
    std::fs::write(&file, "a file").unwrap();
    let (file, missing) = (file.to_string_lossy().into_owned(), node.path("missing").to_string_lossy().into_owned());
    let mut texts = Vec::new();
    for (flag, value) in [
        ("--kubelet-dir", missing.as_str()),
        ("--kubelet-dir", &file),
        ("--kubelet-dir", &long),
        ("--kubelet-dir", &occupied.to_string_lossy()),
        ("--cdi-dir", &file),
        ("--state-dir", &file),
        ("--kubeconfig", &missing),
        ("--kubeconfig", &file),
    ] {
        node.start_agent(&[flag, value]);
        assert_eq!(node.ended().await.code(), Some(1), "{flag} {value}");
        let log = node.agent().log();
        let error = log.lines().find(|line| line.starts_with("tessera-agent: ")).unwrap_or_default();
        texts.push(node.anonymous(&format!("{flag}: {error}")).replace(&"x".repeat(100), "<100 x>"));
    }
    // How long the path is depends on where temporary files are.
    let texts: Vec<_> = texts.into_iter().map(|text| numbers_above_110_hidden(&text)).collect();
    insta::assert_json_snapshot!(texts);
}

fn numbers_above_110_hidden(text: &str) -> String {
    let words =
        text.split(' ').map(|word| if word.parse().is_ok_and(|number: u32| number > 110) { "<n>" } else { word });
    words.collect::<Vec<_>>().join(" ")
}
