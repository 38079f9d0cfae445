//! The `ConfigMap` `cluster-info`, which a cluster publishes for nodes that want to join.
//!
//! It has a kubeconfig with the cluster's address and authority, and for each bootstrap token a
//! signature of that kubeconfig with the token's secret: a detached JWS with HMAC-SHA-256 (RFC
//! 7515 appendix F; the controller `bootstrap-signer-controller` of Kubernetes writes it).
//! Only a holder of the token can make it, so a verified kubeconfig comes from the cluster that issued
//! the token, or from another holder.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::Sha256;

use super::pin::Authorities;
use super::server::Server;
use super::token::Token;

/// The key of the kubeconfig.
const KUBECONFIG: &str = "kubeconfig";

/// Keys of signatures are this and the token's id.
const SIGNATURE: &str = "jws-kubeconfig-";

/// The most bytes of a `ConfigMap`; Kubernetes allows the same.
pub const INFO_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Deserialize)]
struct ConfigMap {
    kind: String,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
}

#[derive(Deserialize)]
struct Kubeconfig {
    #[serde(default)]
    clusters: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    cluster: ClusterTable,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterTable {
    server: String,
    certificate_authority_data: Option<String>,
}

/// A `ConfigMap` that was received, but not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    kubeconfig: String,
    signatures: BTreeMap<String, String>,
}

/// The verified content.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The API server, as nodes reach it.
    pub server: Server,
    /// The cluster's authorities.
    pub authorities: Authorities,
}

impl Info {
    /// Parses the body of the API server's answer.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let map: ConfigMap = serde_json::from_slice(body)
            .ok()
            .filter(|map: &ConfigMap| map.kind == "ConfigMap")
            .context("the answer is not a ConfigMap, so this is not an API server")?;
        let mut data = map.data;
        let Some(kubeconfig) = data.remove(KUBECONFIG) else {
            bail!(
                "`cluster-info` has no `{KUBECONFIG}`: this cluster does not let nodes discover it"
            )
        };
        let signatures = data
            .into_iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(SIGNATURE)?.to_owned(), value)));
        Ok(Self { kubeconfig, signatures: signatures.collect() })
    }

    /// True if the cluster has signed for this token. It does so a moment after a token was made.
    pub fn is_signed_for(&self, token: &Token) -> bool {
        self.signatures.contains_key(token.id())
    }

    /// Returns the content if it is signed with the token.
    pub fn verify(&self, token: &Token) -> Result<Cluster> {
        let id = token.id();
        let Some(signature) = self.signatures.get(id) else {
            bail!(
                "the cluster does not know the token `{id}`: it does not exist, has expired, or may not \
                 sign; make a new one with `kubeadm token create`"
            )
        };
        check_signature(signature, &self.kubeconfig, token).with_context(|| {
            format!(
                "the signature of `cluster-info` with the token `{id}` is wrong: the token's second \
                 part is mistyped, or someone intercepts the connection"
            )
        })?;
        cluster(&self.kubeconfig).context("cannot use the kubeconfig in `cluster-info`")
    }
}

fn check_signature(signature: &str, content: &str, token: &Token) -> Result<()> {
    let (header, mac) = signature.split_once("..").context("it is not a detached JWS")?;
    let parsed = URL_SAFE_NO_PAD.decode(header).context("its header is not base64url")?;
    let Header { alg, kid } = serde_json::from_slice(&parsed).context("its header is not JSON")?;
    ensure!(alg == "HS256", "its algorithm is {alg:?}, expected HS256");
    ensure!(kid.as_deref() == Some(token.id()), "it was made with another token");
    let mac = URL_SAFE_NO_PAD.decode(mac).context("it is not base64url")?;
    let mut hmac = Hmac::<Sha256>::new_from_slice(token.secret().as_bytes())
        .context("cannot use the token")?;
    hmac.update(format!("{header}.{}", URL_SAFE_NO_PAD.encode(content)).as_bytes());
    hmac.verify_slice(&mac).ok().context("it does not match")
}

fn cluster(kubeconfig: &str) -> Result<Cluster> {
    let file: Kubeconfig = serde_saphyr::from_str(kubeconfig).context("it is not valid YAML")?;
    let count = file.clusters.len();
    let [Named { cluster }] = file.clusters.as_slice() else {
        bail!("it names {count} clusters, expected one")
    };
    let data = cluster.certificate_authority_data.as_deref().unwrap_or_default();
    let pem = STANDARD.decode(data).context("`certificate-authority-data` is not base64")?;
    Ok(Cluster { server: cluster.server.parse()?, authorities: Authorities::parse(&pem)? })
}

/// Makes what a cluster publishes; for tests.
#[cfg(test)]
pub(super) mod fixture {
    use super::*;

    pub(in crate::credential) fn kubeconfig(server: &str, ca: &str) -> String {
        let ca = STANDARD.encode(ca);
        format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: \"\"\n  cluster:\n    \
             certificate-authority-data: {ca}\n    server: {server}\ncontexts: null\nusers: null\n"
        )
    }

    pub(in crate::credential) fn signature(content: &str, token: &Token) -> String {
        let header = format!("{{\"alg\":\"HS256\",\"kid\":\"{}\"}}", token.id());
        let header = URL_SAFE_NO_PAD.encode(header);
        let mut hmac = Hmac::<Sha256>::new_from_slice(token.secret().as_bytes()).unwrap();
        hmac.update(format!("{header}.{}", URL_SAFE_NO_PAD.encode(content)).as_bytes());
        format!("{header}..{}", URL_SAFE_NO_PAD.encode(hmac.finalize().into_bytes()))
    }

    pub(in crate::credential) fn body(kubeconfig: &str, signatures: &[(&str, &str)]) -> String {
        let mut data = serde_json::Map::new();
        data.insert(KUBECONFIG.to_owned(), kubeconfig.into());
        for (id, signature) in signatures {
            data.insert(format!("{SIGNATURE}{id}"), (*signature).into());
        }
        let map = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "data": data});
        map.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::{body, kubeconfig, signature};
    use super::*;

    /// A signature that Kubernetes' `cluster-bootstrap/token/jws` has made for `CONTENT`.
    const GOLDEN: &str =
        "eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..vH_kT4yiol-nrAWgjfCYqvum5wsKETXe0S7OOp1VgnE";
    const CONTENT: &str = "apiVersion: v1\nkind: Config\n";

    fn token() -> Token {
        "abcdef.0123456789abcdef".parse().unwrap()
    }

    fn authority() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::default().self_signed(&key).unwrap().pem()
    }

    fn check(info: &str, expected: &str) {
        let error = Info::parse(info.as_bytes()).and_then(|info| info.verify(&token()));
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn a_signature_of_kubernetes_is_valid() {
        check_signature(GOLDEN, CONTENT, &token()).unwrap();
        assert_eq!(signature(CONTENT, &token()), GOLDEN);
    }

    #[test]
    fn a_signed_kubeconfig_gives_server_and_authority() {
        let (ca, token) = (authority(), token());
        let kubeconfig = kubeconfig("https://192.0.2.1:6443", &ca);
        let signature = signature(&kubeconfig, &token);
        let info = Info::parse(body(&kubeconfig, &[("abcdef", &signature)]).as_bytes()).unwrap();
        assert!(info.is_signed_for(&token));
        let cluster = info.verify(&token).unwrap();
        assert_eq!(cluster.server.as_str(), "https://192.0.2.1:6443");
        assert_eq!(cluster.authorities.pem().unwrap(), ca.replace("\r\n", "\n"));
    }

    #[test]
    fn what_is_not_signed_with_the_token_is_refused() {
        let kubeconfig = kubeconfig("https://192.0.2.1:6443", &authority());
        let other: Token = "abcdef.fedcba9876543210".parse().unwrap();
        let right = signature(&kubeconfig, &token());
        let with = |signature: &str| body(&kubeconfig, &[("abcdef", signature)]);
        check(&body(&kubeconfig, &[("zzzzzz", "x")]), "does not know the token `abcdef`");
        check(
            &with(&signature(&kubeconfig, &other)),
            "is wrong: the token's second part is mistyped",
        );
        check(&with("x"), "it is not a detached JWS");
        check(&with("!..x"), "its header is not base64url");
        check(&with("eA..x"), "its header is not JSON");
        let none = URL_SAFE_NO_PAD.encode("{\"alg\":\"none\",\"kid\":\"abcdef\"}");
        check(&with(&format!("{none}..")), "expected HS256");
        let foreign = URL_SAFE_NO_PAD.encode("{\"alg\":\"HS256\",\"kid\":\"zzzzzz\"}");
        check(&with(&format!("{foreign}..")), "it was made with another token");
        check(&body(&kubeconfig.replace("192.0.2.1", "192.0.2.2"), &[("abcdef", &right)]), "match");
    }

    #[test]
    fn another_answer_is_not_an_api_servers() {
        let message = "this is not an API server";
        for text in [
            "",
            "<html>",
            "[]",
            "{}",
            "{\"kind\":\"Status\"}",
            "{\"kind\":\"ConfigMap\",\"data\":[]}",
        ] {
            check(text, message);
        }
        check("{\"kind\":\"ConfigMap\"}", "does not let nodes discover it");
    }

    #[test]
    fn a_kubeconfig_that_cannot_be_used_is_named() {
        let signed = |text: &str| body(text, &[("abcdef", &signature(text, &token()))]);
        check(&signed("{"), "it is not valid YAML");
        check(&signed("clusters: []\n"), "it names 0 clusters, expected one");
        let valid = kubeconfig("https://192.0.2.1:6443", &authority());
        check(&signed(&valid.replace("https", "http")), "does not begin with `https://`");
        check(&signed(&valid.replace("data: L", "data: _L")), "is not base64");
        check(&signed(&kubeconfig("https://192.0.2.1:6443", "x")), "certificate");
    }

    proptest::proptest! {
        #[test]
        fn no_answer_and_no_signature_make_the_parser_panic(body: Vec<u8>, signature: String) {
            proptest::prop_assert!(Info::parse(&body).is_err());
            proptest::prop_assert!(check_signature(&signature, CONTENT, &token()).is_err());
        }
    }
}
