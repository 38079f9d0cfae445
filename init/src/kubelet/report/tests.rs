use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{News, OVER, PATIENCE, Request, Watch};

/// Returns a line of kubelet's log.
fn line(message: &str, error: &str) -> Vec<u8> {
    let error = error.replace('\\', "\\\\").replace('"', "\\\"");
    format!("E1130 08:12:53.123456     321 a.go:1] \"{message}\" err=\"{error}\" node=\"n\"").into()
}

const REQUEST: &str = "Failed while requesting a signed certificate from the control plane";
const POST: &str = "cannot create certificate signing request: Post \"https://10.0.2.2:6443/apis/certificates.k8s.io/v1/x\": ";
const STATUS: &str = "Error updating node status, will retry";

/// Checks the console's line for one line of kubelet's log.
fn check(message: &str, error: &str, expected: &str) {
    let news = Watch::default().read(&line(message, error), Instant::now());
    assert_eq!(news.line.as_deref().unwrap_or_default(), expected, "{message} {error}");
}

#[test]
fn each_trouble_has_one_clear_line() {
    check(
        REQUEST,
        &format!(
            "{POST}tls: failed to verify certificate: x509: certificate signed by unknown authority"
        ),
        "cluster: the API server's certificate is not of the authority in the credential; compare `ca` \
         in kiln.join with the cluster's ca.crt",
    );
    check(
        REQUEST,
        &format!(
            "{POST}tls: failed to verify certificate: x509: certificate has expired or is not yet valid: \
             current time 2025-11-30T12:00:00Z is before 2026-11-30T10:00:00Z"
        ),
        "cluster: a certificate is not valid at this node's time (x509: certificate has expired or is \
         not yet valid: current time 2025-11-30T12:00:00Z is before 2026-11-30T10:00:00Z); check the \
         clock of the node and the certificate of the API server",
    );
    check(
        REQUEST,
        "cannot create certificate signing request: Unauthorized",
        "cluster: the API server refuses the token, because it is unknown or expired; make another one \
         with `kubeadm token create`, and give it in kiln.join",
    );
    check(
        REQUEST,
        &format!("{POST}dial tcp 10.0.2.2:6443: connect: connection refused"),
        "cluster: the API server does not answer: dial tcp 10.0.2.2:6443: connect: connection refused; \
         kubelet keeps trying",
    );
    check(
        "Unable to register node with API server",
        "Post \"https://api.example:6443/api/v1/nodes\": dial tcp: lookup api.example on 10.0.2.3:53: no such host",
        "cluster: the API server does not answer: dial tcp: lookup api.example on 10.0.2.3:53: no such \
         host; kubelet keeps trying",
    );
    check(
        "Certificate request was not signed",
        "timed out waiting for the condition",
        "cluster: the node's request for a certificate waits for approval; see `kubectl get csr`",
    );
    check(
        "Certificate request was not signed",
        "cannot watch on the certificate signing request: certificate signing request is denied, reason: \
         x, message: y",
        "cluster: the node's request for a certificate was refused: cannot watch on the certificate \
         signing request: certificate signing request is denied, reason: x, message: y",
    );
    check("Successfully registered node", "", "cluster: the node is registered");
    check("Fast updating node status as it just became ready", "", "cluster: the node is Ready");
    check("Started kubelet", "", "");
    check(
        "Error syncing pod, skipping",
        "failed to pull: Head \"https://registry.example/v2/a/manifests/b\": dial tcp: lookup \
         registry.example: no such host",
        "",
    );
}

#[test]
fn a_trouble_is_reported_once_and_again_after_it_was_over() {
    let mut watch = Watch::default();
    let now = Instant::now();
    let refused =
        line(REQUEST, &format!("{POST}dial tcp 10.0.2.2:6443: connect: connection refused"));
    assert!(watch.read(&refused, now).line.is_some());
    for second in 1..3600 {
        let at = now + Duration::from_secs(second);
        assert_eq!(watch.read(&refused, at), News::default());
    }
    let later = now + Duration::from_hours(1) + OVER;
    assert!(watch.read(&refused, later).line.is_some());
    assert!(watch.read(&line("Successfully registered node", ""), later).line.is_some());
    assert!(watch.read(&refused, later).line.is_some());
}

#[test]
fn a_deleted_node_object_starts_kubelet_again_and_a_cache_without_it_does_not() {
    let mut watch = Watch::default();
    let now = Instant::now();
    let news = watch.read(&line(STATUS, "error getting node \"n\": node \"n\" not found"), now);
    assert_eq!(news, News::default());
    let gone = line(STATUS, "error getting node \"n\": nodes \"n\" not found");
    let news = watch.read(&gone, now);
    assert_eq!(news.request, Some(Request::Register));
    assert!(news.line.unwrap().starts_with("cluster: the Node object was deleted"));
    // kubelet repeats the line four times in the same moment.
    assert_eq!(watch.read(&gone, now), News::default());
    watch.read(&line("Successfully registered node", ""), now);
    assert_eq!(watch.read(&gone, now).request, Some(Request::Register));
}

#[test]
fn a_node_without_a_network_is_reported_only_after_a_while() {
    let now = Instant::now();
    for (cause, shown) in [
        ("dial tcp 10.0.2.2:6443: connect: network is unreachable", true),
        ("dial tcp: lookup api.example on 127.0.0.1:53: read: connection refused", true),
        ("dial tcp: lookup api.example on 10.0.2.3:53: no such host", false),
    ] {
        let mut watch = Watch::default();
        let offline = line(REQUEST, &format!("{POST}{cause}"));
        let first = watch.read(&offline, now);
        assert_eq!(first.line.is_none(), shown, "{cause}");
        assert_eq!(watch.read(&offline, now + PATIENCE / 2).line, None);
        let news = watch.read(&offline, now + PATIENCE);
        let expected = format!(
            "cluster: the node has no network: {cause}; check the cable and the DHCP server, kubelet \
             keeps trying"
        );
        assert_eq!(news.line, shown.then_some(expected));
    }
    // With a network, the server's own trouble is the news, and a later loss has its time again.
    let mut watch = Watch::default();
    let offline = line(REQUEST, &format!("{POST}dial tcp 10.0.2.2:6443: network is unreachable"));
    let refused = line(REQUEST, &format!("{POST}dial tcp 10.0.2.2:6443: connection refused"));
    assert_eq!(watch.read(&offline, now).line, None);
    assert!(watch.read(&refused, now + PATIENCE / 2).line.is_some());
    assert_eq!(watch.read(&offline, now + PATIENCE).line, None);
    assert!(watch.read(&offline, now + PATIENCE * 2).line.is_some());
}

#[test]
fn an_anonymous_node_is_reported_only_after_a_while() {
    let mut watch = Watch::default();
    let now = Instant::now();
    let anonymous = line(
        "Failed to watch",
        "nodes \"n\" is forbidden: User \"system:anonymous\" cannot list resource \"nodes\"",
    );
    assert_eq!(watch.read(&anonymous, now).line, None);
    assert_eq!(watch.read(&anonymous, now + PATIENCE / 2).line, None);
    let news = watch.read(&anonymous, now + PATIENCE);
    assert!(news.line.unwrap().contains("waits for approval"));
    let mut watch = Watch::default();
    watch.read(&line(REQUEST, "Unauthorized"), now);
    for times in 0..4 {
        assert_eq!(
            watch.read(&anonymous, now + PATIENCE * times).line,
            None,
            "the token is refused"
        );
    }
}

#[test]
fn a_drop_in_that_kubelet_refuses_is_named() {
    for (error, name) in [
        (
            "failed to merge kubelet configs: failed to walk through kubelet dropin directory \
             \"/etc/kubernetes/kubelet.conf.d\": failed to load kubelet dropin file, path: \
             /etc/kubernetes/kubelet.conf.d/50-x.conf, error: yaml: line 1",
            Some("50-x.conf"),
        ),
        ("failed to validate kubelet configuration, error: [maxPods], path: &{a}", Some("")),
        ("failed to run Kubelet: no such file", None),
    ] {
        let mut watch = Watch::default();
        let news = watch.read(&line("command failed", error), Instant::now());
        assert_eq!(news.request, name.map(|name| Request::Refuse(name.into())), "{error}");
        let text = news.line.unwrap();
        assert!(
            text.starts_with("kubelet does not start: failed") && !text.contains("&{"),
            "{text}"
        );
        let again = watch.read(&line("command failed", error), Instant::now());
        assert_eq!((again.line, again.request), (None, news.request));
    }
}

proptest! {
    #[test]
    fn any_line_is_read(line in prop::collection::vec(any::<u8>(), 0..200), error in ".{0,80}") {
        let mut watch = Watch::default();
        watch.read(&line, Instant::now());
        for message in [REQUEST, STATUS, "command failed"] {
            watch.read(&self::line(message, &error), Instant::now());
        }
    }
}
