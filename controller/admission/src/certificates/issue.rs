//! Making certificates and keys, and putting them into a Secret's data.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use super::{
    AUTHORITIES, AUTHORITY_KEY, AUTHORITY_LIFE, Action, Data, LEAF, LEAF_KEY, LEAF_LIFE, Life, SKEW, Stored, encode,
};

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    /// No certificate can have the year that the clock shows.
    #[error("the clock is out of the range of certificates")]
    Clock(#[source] time::error::ComponentRange),
    /// A name that is none, or a source of random numbers that gives none.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// An action that [`what_to_do`](super::what_to_do) never names for this.
    #[error("there is no CA to issue a leaf of")]
    NoAuthority,
}

impl Stored {
    /// What the Secret is to hold once an action is carried out, where it holds `data`. Keys of others stay.
    pub(crate) fn after(
        &self,
        action: Action,
        data: &Data,
        names: &[String],
        now: SystemTime,
    ) -> Result<Data, IssueError> {
        let mut data = data.clone();
        let mut put = |key: &str, pem: String| data.insert(key.to_owned(), ByteString(pem.into_bytes()));
        match action {
            Action::Keep { .. } => {}
            Action::Begin => {
                let (authority, key) = make_authority(now)?;
                let (leaf, leaf_key) = make_leaf(names, &authority, &key, now)?;
                put(AUTHORITIES, encode([&authority]));
                put(AUTHORITY_KEY, key.serialize_pem());
                put(LEAF, encode([&leaf]));
                put(LEAF_KEY, leaf_key.serialize_pem());
            }
            Action::AddAuthority => {
                let (authority, key) = make_authority(now)?;
                let of_leaf = self.leaf.as_ref().and_then(|leaf| self.authorities.get(leaf.signer));
                put(AUTHORITIES, encode([&authority].into_iter().chain(of_leaf.map(|it| &it.certificate))));
                put(AUTHORITY_KEY, key.serialize_pem());
            }
            Action::IssueLeaf => {
                let (Some(authority), Some(key)) = (self.authorities.first(), &self.key) else {
                    return Err(IssueError::NoAuthority);
                };
                let (leaf, leaf_key) = make_leaf(names, &authority.certificate, key, now)?;
                // The former CA stays until it expires: a replica may serve the former leaf for some seconds more.
                put(AUTHORITIES, self.bundle());
                put(LEAF, encode([&leaf]));
                put(LEAF_KEY, leaf_key.serialize_pem());
            }
        }
        Ok(data)
    }
}

fn make_authority(now: SystemTime) -> Result<(CertificateDer<'static>, KeyPair), IssueError> {
    let mut params = lasting(CertificateParams::default(), now, now + AUTHORITY_LIFE)?;
    // Each has a name of its own, so that clients find the one that signed a leaf.
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    params.distinguished_name.push(DnType::CommonName, format!("tessera-admission-ca-{seconds}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.der().clone(), key))
}

/// A leaf is never valid for longer than its CA.
fn make_leaf(
    names: &[String],
    authority: &CertificateDer<'static>,
    key: &KeyPair,
    now: SystemTime,
) -> Result<(CertificateDer<'static>, KeyPair), IssueError> {
    let until = Life::of(authority).map_or(now, |life| life.until).min(now + LEAF_LIFE);
    let mut params = lasting(CertificateParams::new(names)?, now, until)?;
    params.distinguished_name.push(DnType::CommonName, "tessera-admission");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let leaf_key = KeyPair::generate()?;
    let issuer = Issuer::from_ca_cert_der(authority, key)?;
    Ok((params.signed_by(&leaf_key, &issuer)?.der().clone(), leaf_key))
}

fn lasting(mut params: CertificateParams, now: SystemTime, until: SystemTime) -> Result<CertificateParams, IssueError> {
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.not_before = date(now.checked_sub(SKEW).unwrap_or(UNIX_EPOCH))?;
    params.not_after = date(until)?;
    Ok(params)
}

fn date(time: SystemTime) -> Result<OffsetDateTime, IssueError> {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    OffsetDateTime::from_unix_timestamp(seconds.try_into().unwrap_or(i64::MAX)).map_err(IssueError::Clock)
}
