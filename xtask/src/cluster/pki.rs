//! The keys and certificates of a control plane, in one folder.
//!
//! Names, groups and file names follow kubeadm's table ("PKI certificates and requirements" in the
//! Kubernetes documentation). The store has an authority of its own, because nodes can reach its
//! port and have certificates of the cluster's authority. All files are made at once, so a folder
//! is complete or missing.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kiln_base::calendar::Civil;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};

use crate::qemu::segment;

/// The authority that nodes trust.
pub const CA: &str = "ca";
/// The authority of the store.
pub const ETCD_CA: &str = "etcd-ca";
/// The authority of requests that the API server passes on to extensions.
pub const FRONT_PROXY_CA: &str = "front-proxy-ca";
/// The authority of the registry of images.
pub const REGISTRY_CA: &str = "registry-ca";

/// The store's server, and its peers.
pub const ETCD: &str = "etcd";
/// The API server as a client of the store.
pub const ETCD_CLIENT: &str = "apiserver-etcd-client";
/// The API server.
pub const API: &str = "apiserver";
/// The API server as a client of kubelet.
pub const KUBELET_CLIENT: &str = "apiserver-kubelet-client";
/// The API server as a client of extensions.
pub const FRONT_PROXY: &str = "front-proxy-client";
/// The user of kubectl.
pub const ADMIN: &str = "admin";
/// The controller manager as a client of the API server.
pub const CONTROLLER_MANAGER: &str = "controller-manager";
/// The scheduler as a client of the API server.
pub const SCHEDULER: &str = "scheduler";
/// The registry of images.
pub const REGISTRY: &str = "registry";
/// The key that signs tokens of service accounts: `sa.key` and `sa.pub`.
pub const SERVICE_ACCOUNTS: &str = "sa";

/// The user name of the API server at kubelet.
pub const KUBELET_CLIENT_USER: &str = "kube-apiserver-kubelet-client";

/// The address of the service `kubernetes`: the first one of the services' range.
pub const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// The full name of the service `kubernetes`.
pub const SERVICE_NAME: &str = "kubernetes.default.svc.cluster.local";

/// Names of the API server. The first ones are those of the service `kubernetes`.
const API_NAMES: [&str; 5] =
    ["kubernetes", "kubernetes.default", "kubernetes.default.svc", SERVICE_NAME, "localhost"];

/// Years until a certificate expires, so that a kept cluster never does.
const YEARS: i64 = 10;

/// A certificate that an authority signs.
struct Leaf {
    file: &'static str,
    authority: &'static str,
    name: &'static str,
    group: Option<&'static str>,
    /// Names and addresses of a server; a client has none.
    names: &'static [&'static str],
    addresses: &'static [Ipv4Addr],
}

/// A client with this name and group.
const fn client(
    file: &'static str,
    authority: &'static str,
    name: &'static str,
    group: Option<&'static str>,
) -> Leaf {
    Leaf { file, authority, name, group, names: &[], addresses: &[] }
}

const AUTHORITIES: [(&str, &str); 4] = [
    (CA, "kubernetes"),
    (ETCD_CA, "etcd-ca"),
    (FRONT_PROXY_CA, "kubernetes-front-proxy-ca"),
    (REGISTRY_CA, "kiln-registry-ca"),
];

const LEAVES: [Leaf; 9] = [
    Leaf {
        file: ETCD,
        authority: ETCD_CA,
        name: "kiln",
        group: None,
        names: &["localhost"],
        addresses: &[Ipv4Addr::LOCALHOST],
    },
    client(ETCD_CLIENT, ETCD_CA, "kube-apiserver-etcd-client", None),
    Leaf {
        file: API,
        authority: CA,
        name: "kube-apiserver",
        group: None,
        names: &API_NAMES,
        addresses: &[Ipv4Addr::LOCALHOST, segment::HOST, SERVICE],
    },
    client(KUBELET_CLIENT, CA, KUBELET_CLIENT_USER, None),
    client(FRONT_PROXY, FRONT_PROXY_CA, "front-proxy-client", None),
    client(ADMIN, CA, "kubernetes-admin", Some("system:masters")),
    client(CONTROLLER_MANAGER, CA, "system:kube-controller-manager", None),
    client(SCHEDULER, CA, "system:kube-scheduler", None),
    Leaf {
        file: REGISTRY,
        authority: REGISTRY_CA,
        name: "kiln-registry",
        group: None,
        names: &["localhost"],
        addresses: &[Ipv4Addr::LOCALHOST, segment::HOST],
    },
];

/// The folder with all keys and certificates.
#[derive(Debug, Clone)]
pub struct Pki {
    folder: PathBuf,
}

impl Pki {
    /// Takes the folder as it is, or makes it.
    pub fn prepare(folder: &Path) -> Result<Self> {
        if !folder.exists() {
            let new = folder.with_extension("new");
            let context = || format!("cannot make keys and certificates in {}", new.display());
            if new.exists() {
                // A killed run left it.
                fs::remove_dir_all(&new).with_context(context)?;
            }
            fs::create_dir_all(&new).with_context(context)?;
            make(&new).with_context(context)?;
            fs::rename(&new, folder).with_context(context)?;
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// The path of a certificate.
    pub fn certificate(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.crt"))
    }

    /// The path of a private key.
    pub fn key(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.key"))
    }

    /// The path of the public key for tokens of service accounts.
    pub fn service_account_key(&self) -> PathBuf {
        self.folder.join(format!("{SERVICE_ACCOUNTS}.pub"))
    }

    /// Returns a certificate as PEM text.
    pub fn text(&self, name: &str) -> Result<String> {
        let path = self.certificate(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }
}

fn make(folder: &Path) -> Result<()> {
    let now = Civil::now();
    for (file, name) in AUTHORITIES {
        let issuer = CertifiedIssuer::self_signed(authority(name, &now)?, KeyPair::generate()?)?;
        write(folder, &format!("{file}.crt"), &issuer.pem())?;
        write(folder, &format!("{file}.key"), &issuer.key().serialize_pem())?;
        for leaf in LEAVES.iter().filter(|leaf| leaf.authority == file) {
            let key = KeyPair::generate()?;
            let certificate = leaf.parameters(&now)?.signed_by(&key, &issuer)?;
            write(folder, &format!("{}.crt", leaf.file), &certificate.pem())?;
            write(folder, &format!("{}.key", leaf.file), &key.serialize_pem())?;
        }
    }
    let key = KeyPair::generate()?;
    write(folder, &format!("{SERVICE_ACCOUNTS}.key"), &key.serialize_pem())?;
    write(folder, &format!("{SERVICE_ACCOUNTS}.pub"), &key.public_key_pem())
}

/// Returns the certificate of an authority that no other cluster has, as PEM text.
pub fn foreign_authority() -> Result<String> {
    let parameters = authority("kubernetes", &Civil::now())?;
    Ok(parameters.self_signed(&KeyPair::generate()?)?.pem())
}

/// The fields that all certificates have.
pub(super) fn parameters(
    name: &str,
    group: Option<&str>,
    now: &Civil,
) -> Result<CertificateParams> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    let mut subject = DistinguishedName::new();
    if let Some(group) = group {
        subject.push(DnType::OrganizationName, group);
    }
    subject.push(DnType::CommonName, name);
    parameters.distinguished_name = subject;
    // The beginning of the day, so that a node whose clock is a little behind accepts it.
    let (month, day) = (u8::try_from(now.month)?, u8::try_from(now.day)?);
    parameters.not_before = rcgen::date_time_ymd(i32::try_from(now.year)?, month, day);
    // The 29th of February may be missing in the other year.
    parameters.not_after =
        rcgen::date_time_ymd(i32::try_from(now.year + YEARS)?, month, day.min(28));
    Ok(parameters)
}

pub(super) fn authority(name: &str, now: &Civil) -> Result<CertificateParams> {
    let mut parameters = parameters(name, None, now)?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    Ok(parameters)
}

impl Leaf {
    fn parameters(&self, now: &Civil) -> Result<CertificateParams> {
        let mut parameters = parameters(self.name, self.group, now)?;
        for name in self.names {
            parameters.subject_alt_names.push(SanType::DnsName((*name).try_into()?));
        }
        let addresses = self.addresses.iter().map(|at| SanType::IpAddress(IpAddr::V4(*at)));
        parameters.subject_alt_names.extend(addresses);
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !self.addresses.is_empty() {
            parameters.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        parameters.use_authority_key_identifier_extension = true;
        Ok(parameters)
    }
}

/// Writes a file that only its owner can read.
fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&path);
    let mut file = file.with_context(|| format!("cannot create {}", path.display()))?;
    std::io::Write::write_all(&mut file, text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_files_are_made_at_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::prepare(&folder.path().join("pki")).unwrap();
        let first = pki.text(CA).unwrap();
        for leaf in &LEAVES {
            assert!(pki.certificate(leaf.file).is_file() && pki.key(leaf.file).is_file());
        }
        assert!(pki.service_account_key().is_file());
        let again = Pki::prepare(&folder.path().join("pki")).unwrap();
        assert_eq!(again.text(CA).unwrap(), first);
    }

    #[test]
    fn a_half_made_folder_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("pki.new")).unwrap();
        let pki = Pki::prepare(&folder.path().join("pki")).unwrap();
        assert!(pki.certificate(API).is_file() && !folder.path().join("pki.new").exists());
    }
}
