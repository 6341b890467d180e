use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Request, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::stand_in::StandIn;

/// A webhook that is served, and the API server that it is for.
struct Webhook {
    api: StandIn,
    options: Options,
    stop: CancellationToken,
    end: JoinHandle<Result<(), ServeError>>,
}

impl Webhook {
    async fn start() -> Self {
        let api = StandIn::new();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let options = Options { address: free, ..StandIn::options() };
        let stop = CancellationToken::new();
        let end = tokio::spawn(serve(options.clone(), api.client(), stop.clone()));
        let webhook = Self { api, options, stop, end };
        webhook.ready().await;
        webhook
    }

    async fn ready(&self) {
        let ready = async {
            while self.api.bundles().iter().any(String::is_empty) || !self.options.readiness.is_ready() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(30), ready).await.unwrap();
    }

    /// As an API server connects: it trusts what its configuration says, and looks for the service's name.
    async fn connect(&self, protocol: &str) -> Result<TlsStream<TcpStream>, std::io::Error> {
        let bundle = self.api.bundles().remove(0);
        connect(self.options.address, &bundle, "webhook.n.svc", protocol).await
    }

    async fn call(&self, protocol: &str, body: Vec<u8>) -> (StatusCode, Bytes) {
        call(self.connect(protocol).await.unwrap(), protocol, body).await
    }
}

async fn connect(
    address: SocketAddr,
    bundle: &str,
    name: &'static str,
    protocol: &str,
) -> Result<TlsStream<TcpStream>, std::io::Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name).unwrap(), stream).await
}

async fn call(stream: TlsStream<TcpStream>, protocol: &str, body: Vec<u8>) -> (StatusCode, Bytes) {
    let request = Request::post("https://webhook.n.svc/validate?timeout=3s")
        .header("host", "webhook.n.svc")
        .body(axum::body::Body::from(body))
        .unwrap();
    let io = TokioIo::new(stream);
    let response = match protocol {
        "h2" => {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.version(), Version::HTTP_2);
            response
        }
        _ => {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        }
    };
    let status = response.status();
    (status, axum::body::to_bytes(axum::body::Body::new(response.into_body()), 1 << 20).await.unwrap())
}

fn review(config: Value) -> Vec<u8> {
    let object = json!({"metadata": {"name": "c"}, "spec": {"devices": {"config": [{"opaque": config}]}}});
    let kind = json!({"group": "resource.k8s.io", "version": "v1", "kind": "ResourceClaim"});
    let request = json!({"uid": "1", "kind": kind, "operation": "CREATE", "object": object});
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).to_string().into_bytes()
}

#[tokio::test]
async fn api_servers_are_answered_by_either_version_of_http() {
    let webhook = Webhook::start().await;
    let bad = json!({"driver": "gpu.nvidia.com", "parameters": {"apiVersion": "resource.nvidia.com/v1beta1", "kind": "GpuConfig", "sharing": {}}});
    for protocol in ["h2", "http/1.1"] {
        let (status, body) = webhook.call(protocol, review(bad.clone())).await;
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((status, &answer["response"]["allowed"]), (StatusCode::OK, &json!(false)), "{answer}");
        let message = answer["response"]["status"]["message"].as_str().unwrap();
        assert!(message.starts_with("spec.devices.config[0].opaque.parameters.sharing.strategy: "), "{message}");
    }
    assert_eq!(webhook.call("h2", b"{}".to_vec()).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(webhook.call("http/1.1", vec![b' '; 9 << 20]).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let mut registry = prometheus_client::registry::Registry::with_prefix("tessera");
    webhook.options.metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        r#"tessera_admission_requests_total{kind="ResourceClaim",result="Refused"} 2"#,
        r#"tessera_admission_requests_total{kind="Other",result="Unreadable"} 1"#,
        r#"tessera_admission_duration_seconds_count{kind="ResourceClaim"} 2"#,
        "tessera_admission_certificate_expiry_seconds ",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[tokio::test]
async fn who_trusts_another_ca_or_wants_another_name_gets_no_answer() {
    let webhook = Webhook::start().await;
    let other = Webhook::start().await;
    let (address, bundle) = (webhook.options.address, webhook.api.bundles().remove(0));
    assert!(connect(address, &bundle, "webhook.n.svc", "h2").await.is_ok());
    assert!(connect(address, &bundle, "other.n.svc", "h2").await.is_err());
    assert!(connect(address, &other.api.bundles()[0], "webhook.n.svc", "h2").await.is_err());
    assert!(connect(address, &bundle, "webhook.n.svc", "smtp").await.is_err(), "no protocol of ours");
}

#[tokio::test]
async fn what_is_no_tls_holds_up_nobody() {
    let webhook = Webhook::start().await;
    let mut plain = TcpStream::connect(webhook.options.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let _silent = TcpStream::connect(webhook.options.address).await.unwrap();
    let good = json!({"driver": "gpu.example.com", "parameters": {}});
    let (status, body) = webhook.call("h2", review(good)).await;
    assert!(status == StatusCode::OK && String::from_utf8_lossy(&body).contains("\"allowed\":true"));
}

/// A connection that was there before lives on, and the next one sees the new certificate.
#[tokio::test]
async fn a_new_certificate_needs_no_restart() {
    let api = StandIn::new();
    let options = StandIn::options();
    let (sender, served) = watch::channel(None);
    let keeper = Keeper::new(&options, api.client(), sender);
    let listener = TcpListener::bind(options.address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = Arc::new(tls::config(served).unwrap());
    let reviewer = Reviewer { drivers: options.drivers.clone(), check_policy: options.check_policy };
    let router = server::router(Desk { reviewer: Arc::new(reviewer), metrics: options.metrics.clone() });
    let stop = CancellationToken::new();
    let server = tokio::spawn({
        let stop = stop.clone();
        async move { server::serve(listener, config, router, &stop).await }
    });
    let leaf = |stream: &TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();

    let now = std::time::SystemTime::now();
    keeper.look(now).await.unwrap();
    let before = connect(address, &api.bundles()[0], "webhook.n.svc", "h2").await.unwrap();
    // As if somebody had emptied the Secret.
    api.set_data(&crate::certificates::Data::new());
    keeper.look(now).await.unwrap();
    let after = connect(address, &api.bundles()[0], "webhook.n.svc", "h2").await.unwrap();
    assert_ne!(leaf(&before), leaf(&after));
    for stream in [before, after] {
        let (status, _) = call(stream, "h2", review(json!({"driver": "a", "parameters": {}}))).await;
        assert_eq!(status, StatusCode::OK);
    }
    stop.cancel();
    timeout(Duration::from_secs(20), server).await.unwrap().unwrap();
}

#[tokio::test]
async fn it_ends_when_told_to_and_leaves_the_address() {
    let Webhook { options, stop, end, api } = Webhook::start().await;
    let taken = serve(options.clone(), api.client(), stop.clone()).await.unwrap_err();
    assert_eq!(taken.to_string(), format!("cannot listen on {}", options.address));
    let bundle = api.bundles().remove(0);
    // One that is idle does not hold it up.
    let idle = connect(options.address, &bundle, "webhook.n.svc", "h2").await.unwrap();
    stop.cancel();
    timeout(Duration::from_secs(20), end).await.unwrap().unwrap().unwrap();
    drop(idle);
    assert!(std::net::TcpListener::bind(options.address).is_ok());
}
