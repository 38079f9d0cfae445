//! Discovery against a server in this process, which answers as an API server does.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;
use crate::credential::info::fixture;
use crate::credential::pin::Authorities;

const TOKEN: &str = "abcdef.0123456789abcdef";

/// No waiting, otherwise as in the verb.
const AT_ONCE: Retry = Retry { attempts: 2, wait: Duration::ZERO };

/// Returns the status line and the body for the n-th request, counted from 0.
type Answer = dyn Fn(usize) -> (&'static str, String) + Send + Sync;

/// An authority and the certificates that it signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn pins(&self) -> Trust {
        Trust::Pins(Authorities::parse(self.pem().as_bytes()).unwrap().pins().unwrap())
    }

    fn server(&self, edit: impl FnOnce(&mut CertificateParams)) -> ServerConfig {
        let mut parameters = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        edit(&mut parameters);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        config.with_single_cert(vec![certificate.into()], key).unwrap()
    }
}

/// Starts a server that stops with the process.
fn start(config: ServerConfig, answer: Box<Answer>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for (count, client) in listener.incoming().enumerate() {
            let connection = ServerConnection::new(config.clone()).unwrap();
            let mut client = BufReader::new(StreamOwned::new(connection, client.unwrap()));
            let mut line = String::new();
            // A client that does not trust this server hangs up here.
            while client.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let (status, body) = answer(count);
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n");
            let _ = client.get_mut().write_all((head + &body).as_bytes());
            client.get_mut().conn.send_close_notify();
            let _ = client.get_mut().flush();
        }
    });
    format!("https://{address}").parse().unwrap()
}

fn token() -> Token {
    TOKEN.parse().unwrap()
}

/// The answer of a cluster with this authority that knows the token.
fn cluster_info(authority: &Authority) -> String {
    let kubeconfig = fixture::kubeconfig("https://192.0.2.1:6443", &authority.pem());
    let signature = fixture::signature(&kubeconfig, &token());
    fixture::body(&kubeconfig, &[("abcdef", &signature)])
}

/// Checks the error of a server whose certificate is `config` and whose answers are `answer`.
fn check(
    config: ServerConfig,
    answer: impl Fn(usize) -> (&'static str, String) + Send + Sync + 'static,
    trust: &Trust,
    expected: &str,
) {
    let server = start(config, Box::new(answer));
    let error = with_retry(&server, &token(), trust, AT_ONCE).unwrap_err();
    let error = format!("{error:#}").replace(server.as_str(), "SERVER");
    assert!(error.contains(expected), "{error}");
    assert!(!error.contains("0123456789abcdef"), "the token is in the message: {error}");
}

#[test]
fn a_server_with_the_pinned_authority_is_trusted() {
    let authority = Authority::new();
    let body = cluster_info(&authority);
    let server = start(authority.server(|_| {}), Box::new(move |_| ("200 OK", body.clone())));
    let cluster = with_retry(&server, &token(), &authority.pins(), AT_ONCE).unwrap();
    assert_eq!(cluster.server.as_str(), "https://192.0.2.1:6443");
    assert_eq!(cluster.authorities.pins().unwrap().len(), 1);
    with_retry(&server, &token(), &Trust::TokenOnly, AT_ONCE).unwrap();
}

#[test]
fn the_cluster_may_sign_a_moment_after_the_token_was_made() {
    let authority = Authority::new();
    let signed = cluster_info(&authority);
    let unsigned = signed.replace("jws-kubeconfig-abcdef", "jws-kubeconfig-zzzzzz");
    let late = move |count| ("200 OK", if count == 0 { unsigned.clone() } else { signed.clone() });
    let server = start(authority.server(|_| {}), Box::new(late));
    with_retry(&server, &token(), &authority.pins(), AT_ONCE).unwrap();
}

#[test]
fn another_authority_is_refused() {
    let (authority, other) = (Authority::new(), Authority::new());
    let body = cluster_info(&authority);
    let answer = move |_| ("200 OK", body.clone());
    check(
        authority.server(|_| {}),
        answer,
        &other.pins(),
        "the cluster's authority has the key sha256:",
    );
}

#[test]
fn a_server_in_the_middle_is_refused() {
    // It passes the cluster's answer on, but has no certificate of the cluster.
    let (authority, other) = (Authority::new(), Authority::new());
    let body = cluster_info(&authority);
    let answer = move |_| ("200 OK", body.clone());
    let expected = "the certificate of SERVER is not signed by the cluster's authority";
    check(other.server(|_| {}), answer, &authority.pins(), expected);
}

#[test]
fn a_certificate_for_another_name_or_day_is_named() {
    let authority = Authority::new();
    let body = cluster_info(&authority);
    let answer = {
        let body = body.clone();
        move |_| ("200 OK", body.clone())
    };
    let named = authority.server(|parameters| {
        parameters.subject_alt_names =
            vec![rcgen::SanType::DnsName("api.example".try_into().unwrap())];
    });
    check(named, answer, &authority.pins(), "the certificate of SERVER is not for 127.0.0.1");
    let old = authority.server(|parameters| {
        parameters.not_before = rcgen::date_time_ymd(2001, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    let answer = move |_| ("200 OK", body.clone());
    check(old, answer, &authority.pins(), "is not valid today; check this host's clock");
}

#[test]
fn an_answer_that_changes_is_refused() {
    let authority = Authority::new();
    let body = cluster_info(&authority);
    let changed = body.replace("192.0.2.1", "192.0.2.2");
    let answer = move |count| ("200 OK", if count == 0 { body.clone() } else { changed.clone() });
    check(authority.server(|_| {}), answer, &authority.pins(), "changed between two requests");
}

#[test]
fn a_token_that_the_cluster_does_not_know_is_named() {
    let authority = Authority::new();
    let body = cluster_info(&authority).replace("jws-kubeconfig-abcdef", "jws-kubeconfig-zzzzzz");
    let answer = move |_| ("200 OK", body.clone());
    check(authority.server(|_| {}), answer, &authority.pins(), "does not know the token `abcdef`");
}

#[test]
fn other_answers_say_what_to_do() {
    let authority = Authority::new();
    for (status, body, expected) in [
        (
            "401 Unauthorized",
            "",
            "does not show `cluster-info` to strangers (status 401); pass --ca",
        ),
        (
            "403 Forbidden",
            "{}",
            "does not show `cluster-info` to strangers (status 403); pass --ca",
        ),
        ("404 Not Found", "", "has no ConfigMap `cluster-info`"),
        ("302 Found", "", "answered with the status 302"),
        ("502 Bad Gateway", "", "answered with the status 502"),
        ("200 OK", "<html>", "this is not an API server"),
    ] {
        let answer = move |_| (status, body.to_owned());
        check(authority.server(|_| {}), answer, &authority.pins(), expected);
    }
    let long = |_| ("200 OK", " ".repeat(1024 * 1024 + 2));
    check(authority.server(|_| {}), long, &authority.pins(), "sends more than 1048576 bytes");
}

fn unreachable(server: &str, expected: &str) {
    let error = with_retry(&server.parse().unwrap(), &token(), &Trust::TokenOnly, AT_ONCE);
    let error = format!("{:#}", error.unwrap_err());
    assert!(error.contains(expected), "{error}");
}

#[test]
fn a_server_that_is_not_there_or_does_not_speak_tls_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let _ = client.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    unreachable(&format!("https://{address}"), "does not speak TLS, so it is not an API server");
    // The port is free again as soon as the listener is dropped.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let expected = "Connection refused (os error 111); check address, port and firewall";
    unreachable(&format!("https://{free}"), expected);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    std::thread::spawn(move || silent.incoming().for_each(drop));
    unreachable(&format!("https://{address}"), "so it is not an API server; check the port");
}

#[test]
fn failures_of_the_network_name_the_next_step() {
    let server: Server = "https://api.example:6443".parse().unwrap();
    let say = |error, proxy: Option<&str>| explain(&server, proxy, error).to_string();
    expect_test::expect![
        "cannot resolve the name api.example; check --server, and that this host uses the cluster's DNS"
    ]
    .assert_eq(&say(ureq::Error::HostNotFound, None));
    let failed = io::Error::other(format!("{NO_ADDRESS}: Name or service not known"));
    assert_eq!(say(ureq::Error::Io(failed), None), say(ureq::Error::HostNotFound, None));
    expect_test::expect![
        "https://api.example:6443 does not answer within 15 s; check address, port and firewall"
    ]
    .assert_eq(&say(ureq::Error::Timeout(ureq::Timeout::Connect), None));
    expect_test::expect![
        "cannot reach https://api.example:6443 through the proxy proxy.example:3128; if nodes are reached directly, add api.example to `no_proxy`: 403"
    ]
    .assert_eq(&say(
        ureq::Error::ConnectProxyFailed("403".to_owned()),
        Some("proxy.example:3128"),
    ));
}
