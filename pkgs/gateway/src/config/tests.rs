use super::{Config, Kind, Policy, Ports, Problem, ProxyVersion, parse};
use crate::name::Pattern;
use proptest::prelude::*;

fn good(text: &str) -> Config {
    parse(text, Ports::default()).unwrap()
}

/// Checks all problems, as `line: text`.
fn check(text: &str, expected: &[&str]) {
    let problems = parse(text, Ports::default()).unwrap_err();
    let lines: Vec<String> =
        problems.iter().map(|Problem { line, text }| format!("{line}: {text}")).collect();
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line} should start with {expected}");
    }
}

#[test]
fn a_file_of_kiagateway_works_unchanged() {
    let config = good(
        "[https_backends]\n\"A.test\" = \"10.0.0.1:8443\"\n[http_backends]\n\"b.test\" = \"b.internal:8080\"\n",
    );
    let [https, http] = &config.listeners[..] else { panic!("{config:?}") };
    assert_eq!((https.address.port(), https.kind), (443, Kind::Tls));
    assert_eq!((http.address.port(), http.kind), (80, Kind::Http));
    let [a, b] = &config.routes[..] else { panic!("{config:?}") };
    assert_eq!(a.names, [Pattern::Exact("a.test".into())]);
    assert_eq!(
        (a.listeners.as_slice(), a.backends[0].to_string().as_str()),
        (&[0][..], "10.0.0.1:8443")
    );
    assert_eq!(
        (b.listeners.as_slice(), b.backends[0].to_string().as_str()),
        (&[1][..], "b.internal:8080")
    );
}

#[test]
fn a_missing_table_is_empty_and_an_unknown_table_is_an_error() {
    assert!(good("").routes.is_empty());
    check("[backends]\n\"a.test\" = \"10.0.0.1:1\"\n", &["1: unknown field `backends`"]);
}

#[test]
fn every_key_of_our_form_is_read() {
    let config = good(
        r#"
[[listener]]
name = "front"
address = ":443"
kind = "tls"
proxy-in = ["10.0.0.0/8"]
max-connections = 9
hello-timeout = 0.5
lifetime = 60
[[listener]]
address = "127.0.0.1:80"
kind = "http"
trusted = ["10.0.0.1"]
max-connections-per-address = 2
[[route]]
names = ["a.test", "*.A.test"]
listeners = ["front"]
backends = ["10.0.0.1:443", "[fd00::1]:443", "b.test.:443"]
policy = "round-robin"
proxy-out = "v2"
alpn = ["acme-tls/1"]
check = { kind = "http", path = "/health", status = 204, interval = 1, rise = 1, fall = 1, timeout = 9 }
[[route]]
default = true
listeners = ["127.0.0.1:80"]
backends = ["10.0.0.1:80"]
forwarded = true
close = true
[[route]]
names = ["r.test"]
redirect = "https"
"#,
    );
    let [front, plain] = &config.listeners[..] else { panic!("{config:?}") };
    assert_eq!((front.timeouts.hello, front.timeouts.lifetime), (500, Some(60_000)));
    assert_eq!((plain.name.as_str(), plain.max_per_address), ("127.0.0.1:80", Some(2)));
    let [tls, http, redirect] = &config.routes[..] else { panic!("{config:?}") };
    assert_eq!((tls.policy, tls.proxy_out), (Policy::RoundRobin, Some(ProxyVersion::V2)));
    assert_eq!(tls.backends[2].to_string(), "b.test.:443");
    assert_eq!(tls.check.as_ref().unwrap().timeout, 1000, "a check ends before the next begins");
    assert!(http.default && http.headers.is_one_request());
    assert_eq!(http.headers.first_key(), Some("forwarded"));
    assert_eq!(redirect.listeners, [1], "a redirect is for HTTP only");
}

#[test]
fn each_problem_has_its_line() {
    check(
        r#"[[listener]]
address = "here:443"
kind = "tcp"
proxy-in = ["everyone"]
idle-timeout = 0

[[route]]
names = ["a..test", "*"]
listeners = ["nowhere"]
backends = ["10.0.0.1", "10.0.0.300:80", "a:0", "::1:80"]
policy = "random"
proxy-out = "v3"
redirect = "http"
check = { kind = "icmp" }
"#,
        &[
            "2: `address`: `here:443` is not an address",
            "3: `kind`: `tcp` is not `tls` or `http`",
            "4: `proxy-in`: `everyone` is not an address or a network",
            "5: `idle-timeout`: 0 is not 0.001 to 31536000 seconds",
            "8: `names`: `*` is not a name",
            "8: `names`: `a..test` is not a name",
            "9: `listeners`: there is no listener `nowhere`",
            "10: `backends`: `10.0.0.1` is not a backend",
            "10: `backends`: `10.0.0.300:80` is not a backend",
            "10: `backends`: `::1:80` is not a backend",
            "10: `backends`: `a:0` is not a backend",
            "11: `policy`: `random` is not `ordered`",
            "12: `proxy-out`: `v3` is not `v1` or `v2`",
            "13: `redirect`: `http` is not `https`",
            "14: `kind`: `icmp` is not `tcp` or `http`",
        ],
    );
}

#[test]
fn names_that_are_equal_after_normalising_are_errors() {
    check(
        "[https_backends]\n\"a.test\" = \"10.0.0.1:1\"\n\"A.test.\" = \"10.0.0.2:1\"\n",
        &["2: `names`: `a.test` is already routed on line 3"],
    );
    let route = "[[route]]\nnames = [\"a.test\"]\nbackends = [\"10.0.0.1:1\"]\n";
    check(&[route, route].concat(), &["4: `names`: `a.test` is already routed on line 1"]);
    let default = "[[route]]\ndefault = true\nbackends = [\"10.0.0.1:1\"]\n";
    check(&[default, default].concat(), &["4: `names`: default is already routed"]);
    // The same name may have another backend for another protocol.
    good(&[route, route, "alpn = [\"acme-tls/1\"]\n"].concat());
}

#[test]
fn a_backend_that_is_a_listener_of_the_gateway_is_refused() {
    let routed =
        |backend: &str| format!("[[route]]\nnames = [\"a.test\"]\nbackends = [\"{backend}\"]\n");
    for ours in ["127.0.0.1:443", "[::1]:80", "127.9.9.9:80", "0.0.0.0:80", "localhost:443"] {
        check(&routed(ours), &["1: `backends`: "]);
    }
    good(&routed("127.0.0.1:8080"));
    good(&routed("10.0.0.1:443"));
}

#[test]
fn two_listeners_on_one_address_are_refused() {
    let listener =
        |address: &str| format!("[[listener]]\naddress = \"{address}\"\nkind = \"tls\"\n");
    check(
        &[listener(":443"), listener("10.0.0.1:443")].concat(),
        &["4: `address`: another listener is on"],
    );
    check(
        &[listener("10.0.0.1:1"), listener("10.0.0.1:1")].concat(),
        &["4: `address`: another listener"],
    );
    good(&[listener("10.0.0.1:1"), listener("10.0.0.2:1")].concat());
}

#[test]
fn options_without_an_effect_are_errors() {
    let tls = "[[listener]]\naddress = \":443\"\nkind = \"tls\"\n[[route]]\nnames = [\"a.test\"]\n";
    check(
        &format!("{tls}backends = [\"10.0.0.1:1\"]\nforwarded = true\n"),
        &["4: `forwarded`: no HTTP listener has this route"],
    );
    check(
        &format!("{tls}redirect = \"https\"\nlisteners = [\":443\"]\n"),
        &["7: `listeners`: `redirect` has no effect"],
    );
    check(&format!("{tls}\n"), &["4: `route`: needs `backends`"]);
    check("[[route]]\nbackends = [\"10.0.0.1:1\"]\n", &["1: `route`: needs `names`"]);
    check("[[route]]\nname = [\"a\"]\n", &["2: unknown field `name`"]);
    check("[[route]]\nforwarded = 1\n", &["2: `forwarded`: must be true or false"]);
    check("a = \n", &["1: "]);
}

proptest! {
    #[test]
    fn every_problem_has_a_line_of_the_text(text in "[\\[\\]a-z_=\"\\.\n:0-9*# ]{0,200}") {
        if let Err(problems) = parse(&text, Ports::default()) {
            prop_assert!(!problems.is_empty());
            let lines = 1 + text.matches('\n').count();
            prop_assert!(problems.iter().all(|problem| (1..=lines).contains(&problem.line)));
        }
    }

    #[test]
    fn a_route_leads_to_the_backend_that_the_file_names(
        name in "[a-z]{1,9}(\\.[a-z]{1,9}){0,3}", address: std::net::SocketAddr,
    ) {
        prop_assume!(address.port() != 0 && !address.ip().is_unspecified());
        prop_assume!(!address.ip().is_loopback());
        let address = std::net::SocketAddr::new(address.ip(), address.port());
        let config = good(&format!("[https_backends]\n\"{name}\" = \"{address}\"\n"));
        prop_assert_eq!(config.routes[0].label(), name);
        prop_assert_eq!(config.routes[0].backends[0].to_string(), address.to_string());
    }
}

#[test]
fn a_large_file_is_read_in_linear_time() {
    let table = (0..20_000).map(|number| format!("\"t{number}.test\" = \"10.0.0.1:1\"\n"));
    let route =
        |number| format!("[[route]]\nnames = [\"r{number}.test\"]\nbackends = [\"10.0.0.1:1\"]\n");
    let lines: Vec<String> = std::iter::once("[https_backends]\n".to_owned())
        .chain(table)
        .chain((0..20_000).map(route))
        .collect();
    let text = lines.concat();
    // With work for each pair of routes this would take minutes.
    let config = good(&text);
    assert_eq!(config.routes.len(), 40_000);
    assert_eq!(config.routes.last().map(|route| route.line), Some(20_001 + 3 * 19_999 + 1));
}
