//! Decides kubelet's arguments and files. Pure.

use std::fmt::Write;
use std::net::IpAddr;

use kiln_base::json;
use kiln_contract::path;
use kiln_contract::setting::KUBELET;

use super::cluster::Cluster;
use super::reserved::Reserved;
use crate::settings::Settings;
use crate::settings::address::choose;

/// The name of PID 1's own drop-in. It is the first, so that all others win over it.
pub const OWN_DROP_IN: &str = "00-kiln.conf";

/// The name of the drop-in with the memory that pods do not get.
pub const RESERVED_DROP_IN: &str = "10-reserved.conf";

/// The facts that decide, except for the addresses, which come and go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The cluster, or `None` for a standalone node.
    pub cluster: Option<Cluster>,
    /// The kubeconfig with which kubelet asks for a certificate.
    pub bootstrap: Option<String>,
    /// The settings of the node.
    pub settings: Settings,
    /// The names and contents of the credentials `kiln.kubelet` and `kiln.kubelet.NAME`.
    pub drop_ins: Vec<(String, Vec<u8>)>,
    /// The memory that pods do not get, unless the image decides that.
    pub reserved: Option<Reserved>,
    /// True if the image has image credential providers.
    pub providers: bool,
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The path.
    pub path: String,
    /// The contents.
    pub bytes: Vec<u8>,
    /// The mode.
    pub mode: u32,
}

/// kubelet's arguments and files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// The arguments without `argv[0]`.
    pub args: Vec<String>,
    /// The files, each in a folder in memory.
    pub files: Vec<File>,
}

/// Decides. Equal facts give equal plans, so that a plan shows if kubelet must be started again.
#[must_use]
pub fn plan(facts: &Facts, addresses: &[IpAddr]) -> Plan {
    let mut args = vec![
        format!("--config={}", path::KUBELET_BASE_CONFIG),
        format!("--config-dir={}", path::KUBELET_DROP_INS),
    ];
    let mut files = Vec::new();
    if let Some(cluster) = &facts.cluster {
        join(facts, cluster, addresses, &mut args, &mut files);
    }
    if let Some(reserved) = facts.reserved {
        files.push(drop_in(RESERVED_DROP_IN, reserved.drop_in().into_bytes()));
    }
    if facts.providers {
        let (config, bin) = (path::CREDENTIAL_PROVIDERS, path::CREDENTIAL_PROVIDER_BIN);
        args.push(format!("--image-credential-provider-config={config}"));
        args.push(format!("--image-credential-provider-bin-dir={bin}"));
    }
    for (name, bytes) in &facts.drop_ins {
        files.push(drop_in(&drop_in_of(name), bytes.clone()));
    }
    Plan { args, files }
}

/// Returns the file name of a credential's drop-in.
#[must_use]
pub fn drop_in_of(credential: &str) -> String {
    let rest = credential.strip_prefix(KUBELET.name).unwrap_or(credential);
    let name = rest.strip_prefix('.').filter(|rest| !rest.is_empty()).unwrap_or("kubelet");
    format!("50-{name}.conf")
}

/// True for `kiln.kubelet` and `kiln.kubelet.NAME`.
#[must_use]
pub fn is_drop_in(credential: &str) -> bool {
    credential
        .strip_prefix(KUBELET.name)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn join(
    facts: &Facts,
    cluster: &Cluster,
    addresses: &[IpAddr],
    args: &mut Vec<String>,
    files: &mut Vec<File>,
) {
    args.push(format!("--kubeconfig={}", path::KUBECONFIG));
    if let Some(bootstrap) = &facts.bootstrap {
        args.push(format!("--bootstrap-kubeconfig={}", path::BOOTSTRAP_KUBECONFIG));
        files.push(File {
            path: path::BOOTSTRAP_KUBECONFIG.into(),
            bytes: bootstrap.clone().into(),
            mode: 0o600,
        });
    }
    let ips = choose(&facts.settings.node_ip, addresses);
    if !ips.is_empty() {
        let ips: Vec<_> = ips.iter().map(IpAddr::to_string).collect();
        args.push(format!("--node-ip={}", ips.join(",")));
    }
    let labels = &facts.settings.labels;
    if !labels.is_empty() {
        let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        args.push(format!("--node-labels={}", labels.join(",")));
    }
    if let Some(ca) = &cluster.ca {
        files.push(File { path: path::CLUSTER_CA.into(), bytes: ca.clone().into(), mode: 0o644 });
    }
    files.push(drop_in(OWN_DROP_IN, own(cluster, &facts.settings).into_bytes()));
}

fn drop_in(name: &str, bytes: Vec<u8>) -> File {
    File { path: format!("{}/{name}", path::KUBELET_DROP_INS), bytes, mode: 0o600 }
}

/// Returns the drop-in of a joined node, as JSON, which is YAML too.
///
/// kubelet's API is open for clients with a certificate of the cluster's authority, and the API
/// server decides what they may do. Without the authority it stays closed.
fn own(cluster: &Cluster, settings: &Settings) -> String {
    let mut out = String::from(
        "{\"apiVersion\":\"kubelet.config.k8s.io/v1beta1\",\"kind\":\"KubeletConfiguration\"",
    );
    if cluster.ca.is_some() {
        let _ = write!(
            out,
            ",\n\"enableServer\":true,\n\"authentication\":{{\"anonymous\":{{\"enabled\":false}},\
             \"webhook\":{{\"enabled\":true}},\"x509\":{{\"clientCAFile\":\"{}\"}}}},\n\
             \"authorization\":{{\"mode\":\"Webhook\"}}",
            path::CLUSTER_CA
        );
    }
    let dns: Vec<_> = cluster.dns.iter().map(|address| format!("\"{address}\"")).collect();
    let _ = write!(out, ",\n\"clusterDNS\":[{}],\n\"clusterDomain\":", dns.join(","));
    json::string(&mut out, &cluster.domain);
    if let Some(id) = &settings.provider_id {
        out.push_str(",\n\"providerID\":");
        json::string(&mut out, id);
    }
    if !settings.taints.is_empty() {
        let taint = |taint: &crate::settings::taint::Taint| {
            let (key, value, effect) = (&taint.key, &taint.value, taint.effect);
            // Keys, values and effects have no character that JSON escapes.
            format!("{{\"key\":\"{key}\",\"value\":\"{value}\",\"effect\":\"{effect}\"}}")
        };
        let taints: Vec<_> = settings.taints.iter().map(taint).collect();
        let _ = write!(out, ",\n\"registerWithTaints\":[{}]", taints.join(","));
    }
    out.push_str("}\n");
    out
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Cluster, Facts, OWN_DROP_IN, Plan, is_drop_in, plan};
    use crate::machine::pem;
    use crate::settings::{self, Settings};

    fn cluster() -> Cluster {
        Cluster::new("https://a:6443".into(), Some(pem::text(&[vec![0x30, 0]])))
    }

    fn facts(cluster: Option<Cluster>, settings: Settings) -> Facts {
        let bootstrap = cluster.as_ref().map(|_| "bootstrap".into());
        Facts { cluster, bootstrap, settings, ..Facts::default() }
    }

    fn file(plan: &Plan, name: &str) -> Option<String> {
        let file = plan.files.iter().find(|file| file.path.ends_with(name))?;
        Some(String::from_utf8(file.bytes.clone()).unwrap())
    }

    fn settings(text: &str) -> Settings {
        let (settings, problems) = settings::parse(text.as_bytes());
        assert_eq!(problems.count(), 0);
        settings
    }

    #[test]
    fn a_standalone_node_has_no_argument_of_a_cluster() {
        let settings = settings("node-ip = [\"10.0.0.0/8\"]\n[labels]\na = \"b\"");
        let plan = plan(&facts(None, settings), &[]);
        let expected = [
            "--config=/usr/share/kiln/kubelet.yaml",
            "--config-dir=/etc/kubernetes/kubelet.conf.d",
        ];
        assert_eq!((&plan.args[..], plan.files.len()), (&expected.map(String::from)[..], 0));
    }

    #[test]
    fn a_joined_node_has_its_labels_addresses_taints_and_files() {
        let settings = settings(
            "provider-id = \"kiln://a\\\"b\"\nnode-ip = [\"10.0.0.0/8\"]\ntaints = [\"a=b:NoSchedule\"]\n\
             [labels]\na = \"b\"\nc = \"\"",
        );
        let (cluster, addresses) = (cluster(), [IpAddr::from([10, 0, 2, 15])]);
        let facts = Facts { providers: true, ..facts(Some(cluster.clone()), settings) };
        let plan = plan(&facts, &addresses);
        assert_eq!(
            plan.args[2..],
            [
                "--kubeconfig=/var/lib/kubelet/kubeconfig",
                "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf",
                "--node-ip=10.0.2.15",
                "--node-labels=a=b,c=",
                "--image-credential-provider-config=/usr/share/kiln/credential-provider.yaml",
                "--image-credential-provider-bin-dir=/usr/libexec/kubernetes/credential-provider",
            ]
        );
        assert_eq!(file(&plan, "bootstrap-kubelet.conf").as_deref(), Some("bootstrap"));
        assert_eq!(file(&plan, "pki/ca.crt"), cluster.ca);
        let own: serde_json::Value =
            serde_json::from_str(&file(&plan, OWN_DROP_IN).unwrap()).unwrap();
        assert_eq!(own["enableServer"], true);
        assert_eq!(own["authentication"]["anonymous"]["enabled"], false);
        assert_eq!(own["authentication"]["webhook"]["enabled"], true);
        assert_eq!(own["authentication"]["x509"]["clientCAFile"], "/etc/kubernetes/pki/ca.crt");
        assert_eq!(own["authorization"]["mode"], "Webhook");
        assert_eq!(own["clusterDNS"][0], "10.96.0.10");
        assert_eq!(own["clusterDomain"], "cluster.local");
        assert_eq!(own["providerID"], "kiln://a\"b");
        assert_eq!(own["registerWithTaints"][0]["effect"], "NoSchedule");
    }

    #[test]
    fn without_an_authority_the_api_stays_closed() {
        let (cluster, settings) = (Cluster { ca: None, ..cluster() }, Settings::default());
        let plan = plan(&facts(Some(cluster), settings), &[]);
        let own = file(&plan, OWN_DROP_IN).unwrap();
        assert!(!own.contains("enableServer") && !own.contains("authorization"), "{own}");
        assert_eq!(file(&plan, "ca.crt"), None);
    }

    #[test]
    fn drop_ins_keep_their_names_and_win_over_pid_1s_own() {
        let drop_ins =
            vec![("kiln.kubelet".into(), b"a".to_vec()), ("kiln.kubelet.x".into(), b"b".to_vec())];
        let plan = plan(&Facts { drop_ins, ..Facts::default() }, &[]);
        assert_eq!(file(&plan, "/50-kubelet.conf").as_deref(), Some("a"));
        assert_eq!(file(&plan, "/50-x.conf").as_deref(), Some("b"));
        assert!(is_drop_in("kiln.kubelet") && is_drop_in("kiln.kubelet.x"));
        assert!(!is_drop_in("kiln.kubeletx") && !is_drop_in("kiln.node"));
    }
}
