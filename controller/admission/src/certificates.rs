//! The certificates of the webhook: what a Secret holds of them, and what is due.
//!
//! A CA signs the leaf that is served. Both are renewed when two thirds of their life are over, the CA by another one beside
//! it: for [`OVERLAP`] the API servers trust both while the old leaf is served, and only then comes a leaf of the new one, so
//! that no leaf is ever served of a CA that was not made known.
//!
//! What cannot be used is as if it were not there: garbled, expired, of another key or another name, from the future of
//! this clock. There is then always an action that mends it, and none that needs what is missing.

mod issue;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::ByteString;
use pem::{EncodeConfig, LineEnding, Pem};
use rcgen::{KeyPair, PublicKeyData};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use x509_parser::parse_x509_certificate;

pub(crate) use self::issue::IssueError;
use crate::tls;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long a CA is trusted.
pub(crate) const AUTHORITY_LIFE: Duration = DAY.saturating_mul(365);

/// How long a leaf is. Far more than a controller may be down without the webhook going with it.
pub(crate) const LEAF_LIFE: Duration = DAY.saturating_mul(30);

/// By how much the clocks of replicas and API servers may differ: what is made now was valid that long ago.
pub(crate) const SKEW: Duration = DAY;

/// How long a CA is made known before anything of it is served. API servers learn of it within seconds, once it is written.
pub(crate) const OVERLAP: Duration = Duration::from_secs(3600);

/// The CA's certificates, the newest first, as PEM.
const AUTHORITIES: &str = "ca.crt";
/// The key of the newest.
const AUTHORITY_KEY: &str = "ca.key";
/// The leaf, as PEM.
const LEAF: &str = "tls.crt";
/// Its key.
const LEAF_KEY: &str = "tls.key";

/// What a Secret holds, by key.
pub(crate) type Data = BTreeMap<String, ByteString>;

/// What of a Secret's data can be used at some time.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// The newest first. At most two are ever needed.
    authorities: Vec<Authority>,
    /// The key of the first.
    key: Option<KeyPair>,
    leaf: Option<Leaf>,
}

/// The certificate of a CA.
#[derive(Clone, Debug)]
struct Authority {
    certificate: CertificateDer<'static>,
    life: Life,
}

/// The leaf, which one of the CAs has signed for our names.
#[derive(Debug)]
struct Leaf {
    served: Arc<CertifiedKey>,
    life: Life,
    /// Which CA, by its place.
    signer: usize,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Life {
    from: SystemTime,
    until: SystemTime,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Nothing before this time.
    Keep {
        /// When something is due.
        until: SystemTime,
    },
    /// Make a CA and a leaf: nothing is there to build on.
    Begin,
    /// Make another CA and make it known, and serve what is served.
    AddAuthority,
    /// Make a leaf of the newest CA.
    IssueLeaf,
}

/// What is due, at a time.
pub(crate) fn what_to_do(stored: &Stored, now: SystemTime) -> Action {
    let authority = stored.authorities.first().filter(|_| stored.key.is_some());
    match (authority, &stored.leaf) {
        (None, None) => Action::Begin,
        (None, Some(_)) => Action::AddAuthority,
        (Some(_), None) => Action::IssueLeaf,
        (Some(authority), Some(leaf)) if leaf.signer == 0 => {
            if authority.life.due() <= now {
                Action::AddAuthority
            } else if leaf.life.due() <= now {
                Action::IssueLeaf
            } else {
                Action::Keep { until: authority.life.due().min(leaf.life.due()) }
            }
        }
        (Some(authority), Some(leaf)) => {
            let known = authority.life.from + SKEW + OVERLAP;
            if known <= now { Action::IssueLeaf } else { Action::Keep { until: known.min(leaf.life.until) } }
        }
    }
}

impl Stored {
    /// What of the data is of use for a webhook of these names.
    pub(crate) fn read(data: &Data, names: &[String], now: SystemTime) -> Self {
        let text = |key: &str| data.get(key).map(|value| value.0.as_slice()).unwrap_or_default();
        let mut authorities: Vec<_> = CertificateDer::pem_slice_iter(text(AUTHORITIES))
            .filter_map(|certificate| Authority::read(certificate.ok()?.into_owned()))
            .filter(|authority| authority.life.contains(now))
            .collect();
        let key = std::str::from_utf8(text(AUTHORITY_KEY)).ok().and_then(|pem| KeyPair::from_pem(pem).ok());
        let key = key.filter(|key| authorities.first().is_some_and(|authority| authority.is_of(key)));
        let mut leaf = Leaf::read(text(LEAF), text(LEAF_KEY), &authorities, names, now);
        // Nobody needs more: the newest, and the one of the leaf.
        if let Some(leaf) = leaf.as_mut().filter(|leaf| leaf.signer > 1) {
            authorities.swap(1, leaf.signer);
            leaf.signer = 1;
        }
        authorities.truncate(2);
        Self { authorities, key, leaf }
    }

    /// What is to be served, and until when it is valid.
    pub(crate) fn served(&self) -> Option<(Arc<CertifiedKey>, SystemTime)> {
        self.leaf.as_ref().map(|leaf| (Arc::clone(&leaf.served), leaf.life.until))
    }

    /// Whom API servers are to trust, as PEM.
    pub(crate) fn bundle(&self) -> String {
        encode(self.authorities.iter().map(|authority| &authority.certificate))
    }
}

/// Certificates as PEM, one after the other.
fn encode<'a>(certificates: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> String {
    let lines = EncodeConfig::new().set_line_ending(LineEnding::LF);
    let blocks = certificates.into_iter().map(|certificate| Pem::new("CERTIFICATE", certificate.as_ref()));
    blocks.map(|block| pem::encode_config(&block, lines)).collect()
}

impl Authority {
    fn read(certificate: CertificateDer<'static>) -> Option<Self> {
        let life = Life::of(&certificate)?;
        // As a trust anchor it is taken, or API servers would not take it either.
        RootCertStore::empty().add(certificate.clone()).ok()?;
        let (_, parsed) = parse_x509_certificate(&certificate).ok()?;
        parsed.is_ca().then_some(Self { certificate: certificate.clone(), life })
    }

    fn is_of(&self, key: &KeyPair) -> bool {
        parse_x509_certificate(&self.certificate)
            .is_ok_and(|(_, parsed)| parsed.public_key().raw == key.subject_public_key_info())
    }

    /// Whether a client that trusts this CA would take a leaf, under this name and at this time.
    fn vouches_for(&self, leaf: &CertificateDer<'_>, name: &str, now: SystemTime) -> bool {
        let Ok(name) = ServerName::try_from(name) else { return false };
        let mut roots = RootCertStore::empty();
        let added = roots.add(self.certificate.clone());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), tls::provider()).build();
        let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        added.is_ok() && verifier.is_ok_and(|verifier| verifier.verify_server_cert(leaf, &[], &name, &[], now).is_ok())
    }
}

impl Leaf {
    fn read(chain: &[u8], key: &[u8], authorities: &[Authority], names: &[String], now: SystemTime) -> Option<Self> {
        let certificate = CertificateDer::from_pem_slice(chain).ok()?.into_owned();
        let key = PrivateKeyDer::from_pem_slice(key).ok()?.clone_key();
        let life = Life::of(&certificate)?;
        let vouches = |authority: &Authority| names.iter().all(|name| authority.vouches_for(&certificate, name, now));
        let signer = authorities.iter().position(vouches)?;
        let served = CertifiedKey::from_der(vec![certificate], key, &tls::provider()).ok()?;
        Some(Self { served: Arc::new(served), life, signer })
    }
}

impl Life {
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = parse_x509_certificate(certificate).ok()?;
        let time = |seconds: i64| UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap_or_default());
        let validity = parsed.validity();
        Some(Self { from: time(validity.not_before.timestamp()), until: time(validity.not_after.timestamp()) })
    }

    fn contains(&self, now: SystemTime) -> bool {
        self.from <= now && now <= self.until
    }

    /// When it is to be renewed: after two thirds, so that what hinders it may last for a third.
    fn due(&self) -> SystemTime {
        self.from + self.until.duration_since(self.from).unwrap_or_default() * 2 / 3
    }
}

#[cfg(test)]
mod tests;
