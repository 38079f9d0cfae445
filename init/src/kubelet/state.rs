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
        kmsg::notice("the node's certificates are of another cluster, set aside");
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
    use proptest::prelude::*;

    use super::{read_record, record};
    use crate::kubelet::cluster::Cluster;

    #[test]
    fn a_record_is_read_again() {
        let mut cluster = Cluster::new("https://a".into(), None);
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
