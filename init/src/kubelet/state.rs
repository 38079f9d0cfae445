//! The part of a node's membership that a data partition keeps: kubelet's kubeconfig and
//! certificates, and the cluster's DNS.
//!
//! All of it is on `/var`, so only threads call these functions.

use std::io::ErrorKind;
use std::net::IpAddr;

use anyhow::{Context, Result};
use kiln_base::replace::Durability;

use super::cluster::Cluster;
use super::kubeconfig;
use crate::console::kmsg;
use crate::kernel::beneath::Folder;
use crate::settings::read::{self, Key, TEXT_BYTES_MAX};

/// The DNS of the cluster, for a boot without credentials, in `/var`.
const RECORD: &str = "lib/kiln/cluster.toml";

/// kubelet's folder in `/var`, and its kubeconfig, certificates, and current client certificate there.
const KUBELET: &str = "lib/kubelet";
const KUBECONFIG: &str = "kubeconfig";
const PKI: &str = "pki";
const CLIENT_CERTIFICATE: &str = "pki/kubelet-client-current.pem";

/// Decides the cluster from the credential and from what the partition keeps.
///
/// If the credential names another cluster than the kept kubeconfig, the kubeconfig and the
/// certificates are set aside, so that kubelet asks the new cluster for an identity.
#[must_use]
pub fn settle(var: &Folder, wanted: Option<Cluster>) -> Option<Cluster> {
    let kept = kept(var);
    let Some(wanted) = wanted else {
        return kept.ok().flatten().map(|cluster| with_record(var, cluster));
    };
    let same = match &kept {
        Ok(None) => true,
        Ok(Some(kept)) => kept.is(&wanted),
        Err(_) => false,
    };
    if !same {
        kmsg::notice(
            "the node's kubeconfig is of another cluster or has no certificate, set aside",
        );
        let _ = kmsg::warn_on_error(set_aside(var));
    }
    let _ = kmsg::warn_on_error(write_record(var, &wanted));
    Some(wanted)
}

/// Returns the cluster of the kept kubeconfig, or the reason why it cannot be used.
fn kept(var: &Folder) -> Result<Option<Cluster>, String> {
    let kubelet = var.folder(KUBELET).map_err(|error| error.to_string())?;
    let bytes = match kubelet.read(KUBECONFIG, TEXT_BYTES_MAX as u64) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(|error| error.to_string())?,
    };
    let text = String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())?;
    let cluster = kubeconfig::cluster(&text).map_err(str::to_owned)?;
    // kubelet writes the kubeconfig before it has a certificate.
    let has_identity = kubelet.metadata(CLIENT_CERTIFICATE).is_ok();
    if has_identity { Ok(Some(cluster)) } else { Err("without a certificate".into()) }
}

/// Moves kubeconfig and certificates out of kubelet's way. One older set is replaced.
fn set_aside(var: &Folder) -> Result<()> {
    let kubelet = var.folder(KUBELET).with_context(|| format!("cannot open {KUBELET}"))?;
    for from in [KUBECONFIG, PKI] {
        let to = format!("{from}.old");
        let _ = kubelet.remove(&to);
        match kubelet.rename(from, &to) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            moved => moved.with_context(|| format!("cannot rename {from} to {to}"))?,
        }
    }
    Ok(())
}

fn write_record(var: &Folder, cluster: &Cluster) -> Result<()> {
    let text = record(cluster);
    var.replace(RECORD, text.as_bytes(), 0o600, Durability::File)
        .with_context(|| format!("cannot write {RECORD}"))
}

fn record(cluster: &Cluster) -> String {
    let dns: Vec<_> = cluster.dns.iter().map(|address| format!("\"{address}\"")).collect();
    format!("cluster-dns = [{}]\ncluster-domain = \"{}\"\n", dns.join(", "), cluster.domain)
}

fn with_record(var: &Folder, cluster: Cluster) -> Cluster {
    let bytes = var.read(RECORD, TEXT_BYTES_MAX as u64).unwrap_or_default();
    let (dns, domain) = read_record(&bytes);
    Cluster {
        dns: if dns.is_empty() { cluster.dns } else { dns },
        domain: domain.unwrap_or(cluster.domain),
        ..cluster
    }
}

type Record = (Vec<IpAddr>, Option<String>);

const KEYS: [Key<Record>; 2] = [
    ("cluster-dns", |record, value, problems| {
        record.0 = value.parsed(problems, "", |text| text.parse().map_err(|_| String::new()));
    }),
    ("cluster-domain", |record, value, problems| {
        let domain = value.text(problems);
        record.1 = domain.as_deref().and_then(crate::machine::identity::hostname);
    }),
];

/// Reads a record. Mistakes are not reported, because no user writes it.
fn read_record(bytes: &[u8]) -> Record {
    read::document(RECORD, bytes, &KEYS).0
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::{read_record, record};
    use crate::kernel::beneath::Folder;
    use crate::kubelet::cluster::Cluster;
    use crate::kubelet::kubeconfig;
    use crate::machine::pem;

    fn ca(byte: u8) -> String {
        pem::text(&[vec![0x30, 1, byte]])
    }

    fn cluster(server: &str, byte: u8) -> Cluster {
        Cluster::new(server.into(), Some(ca(byte)))
    }

    /// Returns a `/var` with the kubeconfig of a cluster, and with a certificate if `joined`.
    fn var(kubeconfig: &str, joined: bool) -> TempDir {
        let var = tempfile::tempdir().unwrap();
        for folder in ["lib/kubelet/pki", "lib/kiln"] {
            fs::create_dir_all(var.path().join(folder)).unwrap();
        }
        fs::write(var.path().join("lib/kubelet/kubeconfig"), kubeconfig).unwrap();
        if joined {
            let link = var.path().join("lib/kubelet/pki/kubelet-client-current.pem");
            symlink("/var/lib/kubelet/pki/kubelet-client-1.pem", link).unwrap();
        }
        var
    }

    fn settle(var: &Path, wanted: Option<Cluster>) -> Option<Cluster> {
        super::settle(&Folder::open(&fs::canonicalize(var).unwrap()).unwrap(), wanted)
    }

    const A: &str = "https://a.example:6443";

    #[test]
    fn a_kubeconfig_with_a_certificate_makes_a_member_without_credentials() {
        let text = kubeconfig::with_token(A, &ca(1), "t");
        assert_eq!(settle(var(&text, true).path(), None), Some(cluster(A, 1)));
        assert_eq!(settle(var(&text, false).path(), None), None);
        assert_eq!(settle(var("damaged", true).path(), None), None);
        let mut other_dns = cluster(A, 1);
        other_dns.dns = vec!["10.1.0.10".parse().unwrap()];
        let var = var(&text, true);
        let _ = settle(var.path(), Some(other_dns.clone()));
        assert_eq!(settle(var.path(), None), Some(other_dns));
    }

    #[test]
    fn another_cluster_and_a_damaged_kubeconfig_are_set_aside_and_the_same_cluster_is_kept() {
        let text = kubeconfig::with_token(A, &ca(1), "t");
        for (kubeconfig, joined, wanted, kept) in [
            (text.as_str(), true, cluster(A, 1), true),
            (&text, true, cluster(A, 2), false),
            (&text, true, cluster("https://b.example:6443", 1), false),
            (&text, false, cluster(A, 1), false),
            ("damaged", true, cluster(A, 1), false),
        ] {
            let var = var(kubeconfig, joined);
            let file = |name: &str| var.path().join("lib/kubelet").join(name);
            for _ in 0..3 {
                assert_eq!(settle(var.path(), Some(wanted.clone())), Some(wanted.clone()));
                assert_eq!((file("kubeconfig").exists(), file("pki").exists()), (kept, kept));
                assert_eq!(file("kubeconfig.old").exists(), !kept, "{wanted:?}");
                if !kept {
                    // A kubelet that cannot join writes a kubeconfig without a certificate.
                    fs::write(file("kubeconfig"), &text).unwrap();
                    fs::create_dir(file("pki")).unwrap();
                }
            }
        }
    }

    #[test]
    fn a_record_is_read_again() {
        let mut cluster = cluster(A, 1);
        cluster.dns.push("2001:db8::10".parse().unwrap());
        cluster.domain = "k.example".into();
        let text = record(&cluster);
        assert_eq!(read_record(text.as_bytes()), (cluster.dns, Some(cluster.domain)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = read_record(&bytes);
        }
    }
}
