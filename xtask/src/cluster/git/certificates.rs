//! The certificates of the HTTPS ports: a good one, and three that clients must refuse.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context, Result};
use kiln_base::calendar::Civil;
use rcgen::{
    CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType,
};

use crate::cluster::pki;

/// The file with the authority that clients trust.
pub(super) const CA: &str = "ca.crt";
/// The good certificate.
pub(super) const SERVER: &str = "server";
/// A certificate of an authority that clients do not know.
pub(super) const UNKNOWN: &str = "unknown";
/// A certificate for another name.
pub(super) const OTHER: &str = "other";
/// A certificate whose time is over.
pub(super) const EXPIRED: &str = "expired";

/// Makes all certificates for a server of this address, in a new folder.
pub(super) fn make(folder: &Path, address: Ipv4Addr) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let now = Civil::now();
    let issuer = |name: &str| -> Result<_> {
        let parameters = pki::authority(name, &now)?;
        Ok(CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?)
    };
    let (known, unknown) = (issuer("git-ca")?, issuer("unknown-ca")?);
    let write = |name: &str, text: String| {
        fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))
    };
    write(CA, known.pem())?;
    let good = server(&now, address)?;
    let mut other = good.clone();
    other.subject_alt_names = vec![SanType::DnsName("other.example".try_into()?)];
    let mut expired = good.clone();
    expired.not_before = rcgen::date_time_ymd(2020, 1, 1);
    expired.not_after = rcgen::date_time_ymd(2021, 1, 1);
    for (name, parameters, issuer) in [
        (SERVER, &good, &known),
        (UNKNOWN, &good, &unknown),
        (OTHER, &other, &known),
        (EXPIRED, &expired, &known),
    ] {
        let key = KeyPair::generate()?;
        write(&format!("{name}.crt"), parameters.clone().signed_by(&key, issuer)?.pem())?;
        write(&format!("{name}.key"), key.serialize_pem())?;
    }
    Ok(())
}

fn server(now: &Civil, address: Ipv4Addr) -> Result<CertificateParams> {
    let mut parameters = pki::parameters("kiln-git", None, now)?;
    parameters.subject_alt_names =
        vec![SanType::DnsName("localhost".try_into()?), SanType::IpAddress(IpAddr::V4(address))];
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(parameters)
}
