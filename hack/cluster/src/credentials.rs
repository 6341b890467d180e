//! Who may talk to the API server: a certificate authority, a serving certificate and one static token for each user.

use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

use crate::kubeconfig::{Identity, kubeconfig};
use crate::layout::INSIDE;
use crate::record::Spec;

/// The user that Tessera's agent is.
pub const AGENT_USER: &str = "system:serviceaccount:tessera-system:tessera-agent";

/// The same on a node: only a token that is bound to a pod names the node, and a static one cannot.
fn agent_on(node: &str) -> Identity {
    Identity::service_account("tessera-system", "tessera-agent").on_node(node)
}

/// A user with a static token, and the kubeconfigs that carry it.
struct Account {
    kubeconfig: &'static str,
    user: String,
    groups: &'static [&'static str],
    /// The configuration directories of the nodes that have it.
    on: Vec<PathBuf>,
}

fn accounts(spec: &Spec) -> Vec<Account> {
    let account = |kubeconfig, user: &str, groups, on: &[PathBuf]| Account {
        kubeconfig,
        user: user.to_owned(),
        groups,
        on: on.to_owned(),
    };
    let nodes: Vec<_> = spec.nodes.iter().map(|node| spec.directory_of(node).config()).collect();
    let mut accounts = vec![
        account("admin", "admin", &["system:masters"], &nodes),
        account("kube-controller-manager", "system:kube-controller-manager", &[], &nodes[..1]),
        account("kube-scheduler", "system:kube-scheduler", &[], &nodes[..1]),
    ];
    for (node, directory) in spec.nodes.iter().zip(&nodes) {
        let user = format!("system:node:{}", node.name);
        accounts.push(account("kubelet", &user, &["system:nodes"], std::slice::from_ref(directory)));
    }
    accounts
}

/// Writes keys, certificates and `tokens.csv` into the first node's configuration directory, and a kubeconfig for each
/// account into those of the nodes that need it.
pub(crate) fn write(spec: &Spec, service_address: &str) -> Result<()> {
    let (directory, address) = (spec.directory().config(), &spec.first()?.address);
    make_certificates(&directory, address, service_address)?;
    let authority = fs::read(directory.join("ca.crt")).context("reading ca.crt")?;
    let mut tokens = String::new();
    for account in accounts(spec) {
        let token = random_token()?;
        // The CSV columns are token, user, uid and, quoted for its commas, the groups.
        tokens.push_str(&format!("{token},{user},{user},\"{}\"\n", account.groups.join(","), user = account.user));
        let content = kubeconfig(&authority, address, &token, None)?;
        for node in account.on {
            write_secret(&node.join(format!("{}.kubeconfig", account.kubeconfig)), &content)?;
        }
        if account.kubeconfig == "admin" {
            write_secret(&directory.join("admin.token"), token.as_bytes())?;
        }
    }
    // Read once, when the API server starts: every node there will be is in it.
    write_secret(&directory.join("tokens.csv"), tokens.as_bytes())?;
    for node in &spec.nodes {
        let content = impersonating(&directory, address, &agent_on(&node.name))?;
        write_secret(&spec.directory_of(node).config().join("agent.kubeconfig"), &content)?;
    }
    Ok(())
}

/// A kubeconfig that acts as `identity`, by the admin's right to impersonate. `directory` is the first node's.
pub(crate) fn impersonating(directory: &Path, address: &str, identity: &Identity) -> Result<Vec<u8>> {
    let read = |name: &str| fs::read(directory.join(name)).with_context(|| format!("reading {name}"));
    let token = String::from_utf8(read("admin.token")?).context("reading the admin's token")?;
    kubeconfig(&read("ca.crt")?, address, &token, Some(identity))
}

fn make_certificates(directory: &Path, address: &str, service_address: &str) -> Result<()> {
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "365"];
    let authority = ["req", "-x509", "-subj", "/CN=cluster", "-keyout", "ca.key", "-out", "ca.crt"];
    openssl(directory, &[&authority[..], &curve].concat())?;
    let names = format!(
        "subjectAltName=IP:{address},IP:{service_address},IP:127.0.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
    );
    let serving = [
        "req",
        "-x509",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-subj",
        "/CN=kube-apiserver",
        "-keyout",
        "apiserver.key",
        "-out",
        "apiserver.crt",
        "-addext",
        &names,
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ];
    openssl(directory, &[&serving[..], &curve].concat())?;
    let service_accounts =
        ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "service-accounts.key"];
    openssl(directory, &service_accounts)?;
    // The API server finds no public key in a private one of this format.
    openssl(directory, &["pkey", "-in", "service-accounts.key", "-pubout", "-out", "service-accounts.pub"])
}

fn openssl(directory: &Path, arguments: &[&str]) -> Result<()> {
    let ran = Command::new("openssl").args(arguments).current_dir(directory).stdin(Stdio::null()).output();
    match ran {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => bail!("`openssl {}`: {}", arguments[0], String::from_utf8_lossy(&output.stderr).trim_end()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("`openssl` is not on PATH: `apt-get install openssl`")
        }
        Err(error) => Err(anyhow!(error).context("running `openssl`")),
    }
}

fn random_token() -> Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("reading /dev/urandom")?;
    Ok(crate::parts::hex(&bytes))
}

pub(crate) fn write_secret(path: &Path, content: &[u8]) -> Result<()> {
    use std::io::Write;
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content))
        .with_context(|| format!("writing {}", path.display()))
}

/// Where the kubeconfig of an account lies inside the node.
pub(crate) fn kubeconfig_inside(account: &str) -> String {
    format!("{INSIDE}/config/{account}.kubeconfig")
}
