//! The credentials `kiln.join` and `kiln.bootstrap-kubeconfig`: the cluster that the node joins.

use std::net::IpAddr;

use kiln_contract::setting::{BOOTSTRAP_KUBECONFIG, JOIN};

use super::cluster::Cluster;
use super::kubeconfig;
use crate::machine::pem;
use crate::settings::read::{self, Key, Problems, Value};
use crate::settings::registry::is_url;

/// A cluster, and the kubeconfig with which kubelet asks it for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// The cluster.
    pub cluster: Cluster,
    /// The kubeconfig.
    pub bootstrap: String,
}

/// The keys of `kiln.join`, before they are checked for completeness.
#[derive(Debug, Default)]
struct Raw {
    server: Option<String>,
    token: Option<String>,
    ca: Option<String>,
    dns: Option<Vec<IpAddr>>,
    domain: Option<String>,
}

const KEYS: [Key<Raw>; 5] = [
    ("server", |raw, value, problems| raw.server = server(value, problems)),
    ("token", |raw, value, problems| raw.token = token(value, problems)),
    ("ca", |raw, value, problems| raw.ca = ca(value, problems)),
    ("cluster-dns", |raw, value, problems| raw.dns = Some(dns(value, problems))),
    ("cluster-domain", |raw, value, problems| raw.domain = domain(value, problems)),
];

/// Parses `kiln.join`. A missing or invalid server, token or authority makes it void.
#[must_use]
pub fn parse(bytes: &[u8]) -> (Option<Join>, Vec<String>) {
    let (raw, problems) = read::document::<Raw>(JOIN.name, bytes, &KEYS);
    let mut lines = problems.lines();
    let (server, token, ca) = match (raw.server, raw.token, raw.ca) {
        (Some(server), Some(token), Some(ca)) => (server, token, ca),
        (server, token, ca) => {
            let keys =
                [("server", server.is_none()), ("token", token.is_none()), ("ca", ca.is_none())];
            let missing: Vec<_> =
                keys.iter().filter(|(_, missing)| *missing).map(|(key, _)| *key).collect();
            lines.push(format!(
                "{}: without a valid {}, ignored; give server, token and ca",
                JOIN.name,
                missing.join(", ")
            ));
            return (None, lines);
        }
    };
    let bootstrap = kubeconfig::with_token(&server, &ca, &token);
    let mut cluster = Cluster::new(server, Some(ca));
    cluster.dns = raw.dns.filter(|dns| !dns.is_empty()).unwrap_or(cluster.dns);
    cluster.domain = raw.domain.unwrap_or(cluster.domain);
    (Some(Join { cluster, bootstrap }), lines)
}

/// Checks `kiln.bootstrap-kubeconfig`. kubelet exits if it cannot read it, so the parts that it
/// needs are looked for here.
pub fn of_kubeconfig(bytes: &[u8]) -> Result<Join, String> {
    let name = BOOTSTRAP_KUBECONFIG.name;
    let refuse = |cause: &str| format!("{name}: {cause}, ignored; give a complete kubeconfig");
    let text = std::str::from_utf8(bytes).map_err(|_| refuse("not UTF-8"))?;
    let cluster = kubeconfig::cluster(text).map_err(refuse)?;
    Ok(Join { cluster, bootstrap: text.into() })
}

fn server(value: &Value<'_>, problems: &mut Problems) -> Option<String> {
    let text = value.text(problems)?;
    if is_url(&text) && text.starts_with("https://") {
        return Some(text.trim_end_matches('/').to_owned());
    }
    value.refuse(problems, "not an https address", "write it as \"https://api.example:6443\"");
    None
}

/// A bootstrap token (Kubernetes, "Authenticating with Bootstrap Tokens"): 6 and 16 characters.
fn token(value: &Value<'_>, problems: &mut Problems) -> Option<String> {
    let text = value.text(problems)?;
    let part = |part: &str, length: usize| {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        part.len() == length && part.bytes().all(allowed)
    };
    if text.split_once('.').is_some_and(|(id, secret)| part(id, 6) && part(secret, 16)) {
        return Some(text);
    }
    let next = "write it as \"abcdef.0123456789abcdef\", as `kubeadm token create` prints it";
    value.refuse(problems, "not a bootstrap token", next);
    None
}

fn ca(value: &Value<'_>, problems: &mut Problems) -> Option<String> {
    let text = value.lines(problems)?;
    match pem::certificates(&text) {
        Ok(certificates) => Some(pem::text(&certificates)),
        Err(cause) => {
            value.refuse(problems, cause, "copy the cluster's ca.crt");
            None
        }
    }
}

fn dns(value: &Value<'_>, problems: &mut Problems) -> Vec<IpAddr> {
    value.parsed(problems, "write addresses, such as \"10.96.0.10\"", |text| {
        text.parse().map_err(|_| format!("{text:?} is not an IP address"))
    })
}

fn domain(value: &Value<'_>, problems: &mut Problems) -> Option<String> {
    let text = value.text(problems)?;
    let name = crate::machine::identity::hostname(&text);
    if name.is_none() {
        value.refuse(problems, "not a domain, ignored", "write it as \"cluster.local\"");
    }
    name
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{of_kubeconfig, parse};
    use crate::machine::pem;

    fn ca() -> String {
        pem::text(&[vec![0x30, 3, 1, 2, 3]])
    }

    fn text(server: &str, token: &str, ca: &str) -> String {
        format!("server = \"{server}\"\ntoken = \"{token}\"\nca = '''\n{ca}'''\n")
    }

    const SERVER: &str = "https://api.example:6443";
    const TOKEN: &str = "abcdef.0123456789abcdef";

    #[test]
    fn a_complete_credential_names_a_cluster() {
        let (join, lines) = parse(text("https://api.example:6443/", TOKEN, &ca()).as_bytes());
        let join = join.unwrap();
        assert_eq!(lines, Vec::<String>::new());
        assert_eq!((join.cluster.server.as_str(), join.cluster.ca), (SERVER, Some(ca())));
        assert_eq!((join.cluster.dns.len(), join.cluster.domain.as_str()), (1, "cluster.local"));
        assert!(join.bootstrap.contains(TOKEN));
        let more =
            "cluster-dns = [\"10.1.0.10\", \"2001:db8::10\"]\ncluster-domain = \"k.example\"";
        let (join, _) = parse(format!("{}{more}", text(SERVER, TOKEN, &ca())).as_bytes());
        let cluster = join.unwrap().cluster;
        assert_eq!((cluster.dns.len(), cluster.domain.as_str()), (2, "k.example"));
    }

    /// Checks the lines of a credential that is ignored.
    fn check(text: &str, expected: &[&str]) {
        let (join, lines) = parse(text.as_bytes());
        assert_eq!(
            (join, &lines[..]),
            (None, &expected.iter().map(ToString::to_string).collect::<Vec<_>>()[..])
        );
        assert!(!lines.concat().contains("secret"));
    }

    #[test]
    fn each_mistake_is_reported_without_the_token() {
        let void = |key: &str| {
            format!("kiln.join: without a valid {key}, ignored; give server, token and ca")
        };
        check(
            &text("http://api.example", TOKEN, &ca()),
            &[
                "kiln.join:1: server: not an https address; write it as \"https://api.example:6443\"",
                &void("server"),
            ],
        );
        check(
            &text(SERVER, "secret", &ca()),
            &[
                "kiln.join:2: token: not a bootstrap token; write it as \"abcdef.0123456789abcdef\", as \
                 `kubeadm token create` prints it",
                &void("token"),
            ],
        );
        check(
            &text(SERVER, TOKEN, "/etc/kubernetes/pki/ca.crt"),
            &["kiln.join:3: ca: has no certificate in PEM; copy the cluster's ca.crt", &void("ca")],
        );
        check("", &[&void("server, token, ca")]);
    }

    #[test]
    fn an_incomplete_kubeconfig_is_reported() {
        let (join, _) = parse(text(SERVER, TOKEN, &ca()).as_bytes());
        let join = join.unwrap();
        let same = of_kubeconfig(join.bootstrap.as_bytes()).unwrap();
        assert!(same.cluster.is(&join.cluster));
        assert_eq!(
            of_kubeconfig(b"\xff").unwrap_err(),
            "kiln.bootstrap-kubeconfig: not UTF-8, ignored; give a complete kubeconfig"
        );
        assert_eq!(
            of_kubeconfig(b"").unwrap_err(),
            "kiln.bootstrap-kubeconfig: has no server, ignored; give a complete kubeconfig"
        );
    }

    #[test]
    fn another_server_or_authority_is_another_cluster() {
        let cluster =
            |server: &str, ca: &str| parse(text(server, TOKEN, ca).as_bytes()).0.unwrap().cluster;
        let other = pem::text(&[vec![0x30, 3, 9, 9, 9]]);
        assert!(cluster(SERVER, &ca()).is(&cluster(SERVER, &ca().replace('\n', "\n\n"))));
        assert!(!cluster(SERVER, &ca()).is(&cluster(SERVER, &other)));
        assert!(!cluster(SERVER, &ca()).is(&cluster("https://other.example:6443", &ca())));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let (join, lines) = parse(&bytes);
            prop_assert!(join.is_some() || !lines.is_empty());
            let _ = of_kubeconfig(&bytes);
        }
    }
}
