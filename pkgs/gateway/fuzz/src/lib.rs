//! Properties of the parsers for any bytes: one function per fuzz target.
//!
//! The functions do not use libFuzzer, so that `pkgs/gateway/tests/fuzz.rs` can replay the inputs in
//! `seeds/` with a plain `cargo test`.

use gateway::config::{Ports, parse};
use gateway::dns::conf::Conf;
use gateway::http::exchange::{Exchange, FromBackend, FromClient};
use gateway::http::head;
use gateway::http::lines::Scan as Lines;
use gateway::proxy;
use gateway::route::Table;
use gateway::tls::hello::Scan;

/// A target's name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 5] = [
    ("conf", conf),
    ("config", config),
    ("hello", hello),
    ("proxy", proxy_header),
    ("request", request),
];

/// The texts of resolv.conf and hosts: there is always a server, and a name to ask it for.
pub fn conf(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let conf = Conf::parse(&text, &text);
    assert!(!conf.servers.is_empty() && !conf.candidates("a").is_empty());
    assert!((1000..=30_000).contains(&conf.timeout) && conf.attempts > 0);
}

/// A configuration: either errors with their lines, or a table whose routes exist.
pub fn config(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match parse(&text, Ports::default()) {
        Ok(config) => {
            let table = Table::new(&config);
            for listener in 0..config.listeners.len() {
                let found = table.find(listener, Some("a.test"), b"\x02h2");
                assert!(found.is_none_or(|route| route < config.routes.len()));
            }
        }
        Err(problems) => assert!(problems.iter().all(|problem| problem.line > 0)),
    }
}

/// A `ClientHello`: the split into packets does not change the result.
pub fn hello(input: &[u8]) {
    let whole = Scan::default().parse(input);
    let mut scan = Scan::default();
    for end in 0..=input.len() {
        let part = scan.parse(&input[..end]);
        if part != Ok(None) {
            assert_eq!(part, whole, "cut at {end}");
            return;
        }
    }
    assert_eq!(whole, Ok(None));
}

/// A PROXY header: more bytes never change the result, and the header ends within the bytes.
pub fn proxy_header(input: &[u8]) {
    let whole = proxy::parse(input);
    for end in 0..input.len() {
        let part = proxy::parse(&input[..end]);
        assert!(part == Ok(None) || part == whole, "cut at {end}");
    }
    if let Ok(Some(header)) = whole {
        assert!(header.length <= input.len());
    }
}

/// Requests and, after two NULs, responses: the split into packets does not change a head, and no more
/// bytes are forwarded than there are.
pub fn request(input: &[u8]) {
    let middle = input.windows(2).position(|pair| pair == [0, 0]).unwrap_or(input.len());
    let (client, backend) = (&input[..middle], input.get(middle + 2..).unwrap_or_default());
    let whole = head::parse(&mut Lines::default(), client);
    let mut scan = Lines::default();
    for end in 1..=client.len() {
        let part = head::parse(&mut scan, &client[..end]);
        if part != Ok(None) {
            assert_eq!(part, whole, "cut at {end}");
            break;
        }
    }
    exchange(client, backend);
}

fn exchange(mut client: &[u8], mut backend: &[u8]) {
    let mut exchange = Exchange::default();
    loop {
        let before = (client.len(), backend.len());
        match exchange.client(client) {
            Ok(FromClient::Head(head)) => {
                client = &client[head.length..];
                exchange.begin(&head, false);
            }
            Ok(FromClient::Forward(count) | FromClient::Skip(count)) => client = &client[count..],
            Ok(FromClient::More | FromClient::Wait) => {}
            Err(_) => return,
        }
        match exchange.backend(backend) {
            Ok(FromBackend::Forward(count)) => backend = &backend[count..],
            Ok(FromBackend::More) => {}
            Err(_) => return,
        }
        if (client.len(), backend.len()) == before {
            return;
        }
    }
}
