use super::answer;
use super::exchange::{Exchange, FromBackend, FromClient};
use super::head::{Head, parse};
use super::headers::{Client, Rules};
use super::lines::Scan;
use super::{HEAD_BYTES_MAX, Refusal};
use kiln_server::http::body::Body;
use proptest::prelude::*;
use toml::de::DeTable;

fn good(text: &str) -> Head {
    parse(&mut Scan::default(), text.as_bytes()).unwrap().unwrap()
}

/// Checks why a request with this line and these fields is refused.
fn check(line: &str, fields: &str, expected: Option<Refusal>) {
    let text = format!("{line}\r\n{fields}\r\n");
    let got = parse(&mut Scan::default(), text.as_bytes()).err();
    let kind = |refusal| match refusal {
        Some(Refusal::BadRequest(_)) => Some(Refusal::BadRequest("")),
        other => other,
    };
    assert_eq!(kind(got), kind(expected), "{text:?}");
}

const BAD: Option<Refusal> = Some(Refusal::BadRequest(""));
const GET: &str = "GET / HTTP/1.1";

#[test]
fn a_valid_request_names_its_host() {
    let head = good("GET /a?b HTTP/1.1\r\nHost: A.test:80\r\nX: \u{e4}\r\n\r\nrest");
    assert_eq!((head.host.host.as_str(), head.host.port), ("a.test", Some(80)));
    assert_eq!((head.body, head.close, head.upgrade), (Body::NONE, false, false));
    assert!(good("GET / HTTP/1.0\r\nHost: a\r\n\r\n").close);
    assert!(!good("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").close);
    assert!(good("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n").close);
    check("GET http://A.test/x HTTP/1.1", "Host: a.test.\r\n", None);
    check("OPTIONS * HTTP/1.1", "Host: a\r\n", None);
    check("POST / HTTP/1.1", "Host: a\r\nContent-Length: 5\r\n", None);
    check("POST / HTTP/1.1", "Host: a\r\nTransfer-Encoding: Chunked\r\n", None);
}

#[test]
fn a_missing_repeated_or_invalid_host_is_refused() {
    for fields in [
        "",
        "Host: a\r\nHost: a\r\n",
        "Host:\r\n",
        "Host: a b\r\n",
        "Host: a,b\r\n",
        "Host: a/b\r\n",
        "Host: u@a\r\n",
    ] {
        check(GET, fields, BAD);
    }
    check("GET http://b.test/ HTTP/1.1", "Host: a.test\r\n", BAD);
    check("GET http://a.test:81/ HTTP/1.1", "Host: a.test\r\n", BAD);
    check("GET HTTP://u@a.test/ HTTP/1.1", "Host: a.test\r\n", BAD);
    check("GET ftp://a.test/ HTTP/1.1", "Host: a.test\r\n", BAD);
}

#[test]
fn lines_that_two_readers_could_split_differently_are_refused() {
    for text in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET /\tx HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / http/1.1\r\nHost: a\r\n\r\n",
        "\u{16}\u{3}\u{1}",
        "\r\n\r\nGET / HTTP/1.1\r\n",
    ] {
        let got = Exchange::default();
        let got = feed(got, text.as_bytes());
        assert!(matches!(got, Err(Refusal::BadRequest(_))), "{text:?}: {got:?}");
    }
}

/// Passes bytes to an exchange, without an empty line before the request.
fn feed(mut exchange: Exchange, mut bytes: &[u8]) -> Result<FromClient, Refusal> {
    loop {
        match exchange.client(bytes)? {
            FromClient::Skip(count) => bytes = &bytes[count..],
            other => return Ok(other),
        }
    }
}

#[test]
fn framing_that_two_readers_could_understand_differently_is_refused() {
    for fields in [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked;a=b\r\n",
        "Transfer-Encoding:\r\n",
    ] {
        check("POST / HTTP/1.1", &format!("Host: a\r\n{fields}"), BAD);
    }
    check("POST / HTTP/1.0", "Host: a\r\nTransfer-Encoding: chunked\r\n", BAD);
}

#[test]
fn a_request_that_the_gateway_does_not_support_is_refused() {
    check("CONNECT a.test:443 HTTP/1.1", "Host: a.test:443\r\n", Some(Refusal::Connect));
    check(GET, "Host: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n", BAD);
    check(GET, "Host: a\r\nUpgrade: websocket, H2C\r\n", BAD);
    check(GET, "Host: a\r\nHTTP2-Settings: x\r\n", BAD);
    check("PRI * HTTP/2.0", "", Some(Refusal::Version));
    let long = "x".repeat(HEAD_BYTES_MAX);
    check(GET, &format!("Host: a\r\nX: {long}\r\n"), Some(Refusal::TooLarge));
    check(GET, &format!("Host: a\r\n{}", "X: y\r\n".repeat(300)), Some(Refusal::TooLarge));
}

#[test]
fn a_head_may_arrive_byte_by_byte() {
    let text = "POST /x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\n";
    let mut scan = Scan::default();
    for end in 1..text.len() {
        assert_eq!(parse(&mut scan, &text.as_bytes()[..end]), Ok(None), "{end}");
    }
    assert_eq!(parse(&mut scan, text.as_bytes()).unwrap().unwrap(), good(text));
}

/// Sends a request through an exchange; returns the bytes after its head.
fn ask<'a>(exchange: &mut Exchange, bytes: &'a [u8]) -> &'a [u8] {
    let FromClient::Head(head) = exchange.client(bytes).unwrap() else { panic!("no head") };
    exchange.begin(&head, false);
    &bytes[head.length..]
}

fn respond(exchange: &mut Exchange, text: &str) -> usize {
    match exchange.backend(text.as_bytes()) {
        Ok(FromBackend::Forward(count)) => count,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_next_request_waits_for_the_response() {
    let mut exchange = Exchange::default();
    let two = [&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..]; 2].concat();
    let rest = ask(&mut exchange, &two);
    assert_eq!(exchange.client(rest), Ok(FromClient::Wait));
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    assert_eq!(respond(&mut exchange, head), head.len());
    assert_eq!(exchange.client(rest), Ok(FromClient::Wait));
    assert_eq!(respond(&mut exchange, "okX"), 2);
    assert!(exchange.is_idle() && exchange.wants_client());
    assert!(exchange.backend(b"X").is_err(), "bytes without a request");
    ask(&mut exchange, rest);
}

#[test]
fn only_a_101_makes_bytes_opaque() {
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let next = b"GET / HTTP/1.1\r\nHost: b\r\n\r\n";
    let mut exchange = Exchange::default();
    ask(&mut exchange, request);
    assert_eq!(exchange.client(next), Ok(FromClient::Wait), "the response decides");
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(respond(&mut exchange, text), text.len());
    assert!(matches!(exchange.client(next), Ok(FromClient::Head(head)) if head.host.host == "b"));
    let mut exchange = Exchange::default();
    ask(&mut exchange, request);
    respond(&mut exchange, "HTTP/1.1 101 Switching Protocols\r\n\r\n\u{1}\u{2}");
    assert!(exchange.is_opaque());
    assert_eq!(exchange.client(next), Ok(FromClient::Forward(next.len())));
    let mut exchange = Exchange::default();
    ask(&mut exchange, next);
    assert!(
        exchange.backend(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").is_err(),
        "the request did not ask for another protocol"
    );
}

#[test]
fn a_response_ends_where_the_standard_says() {
    let check = |method: &str, answer: &str, taken: usize, idle: bool, over: bool| {
        let mut exchange = Exchange::default();
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        ask(&mut exchange, request.as_bytes());
        let mut rest = answer.as_bytes();
        while !rest.is_empty() && !exchange.is_idle() {
            match exchange.backend(rest).unwrap() {
                FromBackend::Forward(count) => rest = &rest[count..],
                FromBackend::More => panic!("{answer:?}"),
            }
        }
        assert_eq!(answer.len() - rest.len(), taken, "{answer:?}");
        assert_eq!((exchange.is_idle(), exchange.is_over()), (idle, over), "{answer:?}");
    };
    check("GET", "HTTP/1.1 204 No Content\r\n\r\n", 27, true, false);
    check("GET", "HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n", 37, true, false);
    check("HEAD", "HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\n", 37, true, false);
    check("GET", "HTTP/1.1 100 x\r\n\r\nHTTP/1.1 204 x\r\n\r\n", 36, true, false);
    check("GET", "HTTP/1.1 200 x\r\n\r\nrest", 22, false, false);
    check("GET", "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 51, true, false);
    check("GET", "HTTP/1.1 200\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", 54, true, true);
    check("GET", "HTTP/1.0 200 x\r\nContent-Length: 0\r\n\r\n", 37, true, true);
}

#[test]
fn responses_that_two_readers_could_understand_differently_are_refused() {
    for bad in [
        "HTTP/2 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "HTTP/1.1 99 x\r\n\r\n",
        "HTTP/1.1 2000 x\r\n\r\n",
        "HTTP/1.1 200 x\nA: b\r\n\r\n",
        "HTTP/1.1 200 x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        "HTTP/1.1 200 x\r\n A: b\r\n\r\n",
    ] {
        let mut exchange = Exchange::default();
        ask(&mut exchange, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(exchange.backend(bad.as_bytes()).is_err(), "{bad:?}");
    }
}

#[test]
fn a_body_may_pass_without_being_parsed() {
    let mut exchange = Exchange::default();
    ask(&mut exchange, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
    assert_eq!(exchange.opaque_up(), 1000);
    exchange.passed_up(1000);
    assert!(!exchange.wants_client());
    respond(&mut exchange, "HTTP/1.1 200 x\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(exchange.opaque_down(), 5);
    exchange.passed_down(5);
    assert!(exchange.is_idle());
}

#[test]
fn a_response_before_the_end_of_the_request_does_not_end_the_request() {
    let mut exchange = Exchange::default();
    ask(&mut exchange, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n");
    respond(&mut exchange, "HTTP/1.1 413 x\r\nContent-Length: 0\r\n\r\n");
    assert!(!exchange.is_idle());
    assert_eq!(exchange.client(b"bodyGET"), Ok(FromClient::Forward(4)));
    assert!(exchange.is_idle());
}

/// Checks the head that a backend gets from a client; `keys` are the route's keys.
fn check_forward(text: &str, keys: &str, client: &str, trusted: bool, expected: &str) {
    let rules = Rules::take(DeTable::parse(keys).unwrap().get_mut()).unwrap();
    let client = Client { address: client.parse().unwrap(), trusted };
    let mut out = Vec::new();
    let head = good(text);
    rules.forward(&head.request(text.as_bytes()), client, rules.is_one_request(), &mut out);
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

const FORGED: &str = "GET / HTTP/1.1\r\nX-Forwarded-For: evil\r\nHost: A.test\r\nforwarded: for=evil\r\nX_Forwarded_Proto: evil\r\nConnection: keep-alive\r\nVia: v\r\n\r\n";

#[test]
fn a_head_passes_unchanged_if_no_rule_changes_it() {
    check_forward(FORGED, "", "10.0.0.9", true, FORGED);
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    check_forward(upgrade, "close = true", "10.0.0.9", false, upgrade);
}

#[test]
fn forwarding_headers_of_a_client_that_is_not_trusted_are_dropped() {
    let without = "GET / HTTP/1.1\r\nHost: A.test\r\nConnection: keep-alive\r\nVia: v\r\n\r\n";
    check_forward(FORGED, "", "10.0.0.9", false, without);
}

#[test]
fn rules_add_their_lines_after_those_of_the_client() {
    check_forward(
        FORGED,
        "forwarded = true\nclose = true",
        "::ffff:10.0.0.9",
        false,
        "GET / HTTP/1.1\r\nHost: A.test\r\nVia: v\r\nX-Forwarded-For: 10.0.0.9\r\nX-Forwarded-Proto: http\r\n\
         Forwarded: for=10.0.0.9;host=\"a.test\";proto=http\r\nConnection: close\r\n\r\n",
    );
    check_forward(
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\n\r\n",
        "forwarded = true",
        "fd00::1",
        true,
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: fd00::1\r\n\
         Forwarded: for=\"[fd00::1]\";host=\"a\";proto=http\r\n\r\n",
    );
}

#[test]
fn an_answer_states_a_reason_and_closes_the_connection() {
    let text = String::from_utf8(answer::refusal(Refusal::BadGateway, false)).unwrap();
    assert!(
        text.starts_with("HTTP/1.1 502 Bad Gateway\r\n") && text.contains("\r\nRetry-After: 5\r\n")
    );
    assert!(text.contains("\r\nConnection: close\r\n") && text.ends_with("reached\n"));
    assert!(answer::refusal(Refusal::NotFound, true).ends_with(b"\r\n\r\n"));
    let text = String::from_utf8(answer::redirect("a.test", b"/x?\xe4", false)).unwrap();
    assert!(text.contains("\r\nLocation: https://a.test/x?%E4\r\n"), "{text}");
}

proptest! {
    #[test]
    fn the_split_of_a_request_into_packets_changes_nothing(
        text in "(GET|POST|X) (/|http://a/|\\*) HTTP/1\\.[01](\r\n|\n)((Host|Content-Length|Transfer-Encoding|X|Upgrade): (a|b|5|chunked| x)(\r\n|\n|\r)){0,4}\r\n.{0,9}",
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = parse(&mut Scan::default(), text.as_bytes());
        let cut = cut.index(text.len());
        let mut scan = Scan::default();
        let part = parse(&mut scan, &text.as_bytes()[..cut]);
        if part == Ok(None) {
            prop_assert_eq!(parse(&mut scan, text.as_bytes()), whole);
        } else {
            prop_assert_eq!(part, whole);
        }
    }

    #[test]
    fn the_split_of_a_response_into_packets_changes_nothing(
        text in "HTTP/1\\.[01] (100|200|204|304|999|99) x\r\n((Content-Length|Transfer-Encoding|Connection|X): (5|6|chunked|close)(\r\n|\n)){0,3}\r\n.{0,9}",
        cut in any::<prop::sample::Index>(),
    ) {
        let mut whole = asked();
        let expected = whole.backend(text.as_bytes());
        let mut exchange = asked();
        match exchange.backend(&text.as_bytes()[..cut.index(text.len())]) {
            Ok(FromBackend::More) => {
                prop_assert_eq!(exchange.backend(text.as_bytes()), expected);
            }
            other => prop_assert_eq!(other, expected),
        }
    }

    #[test]
    fn no_more_bytes_of_a_backend_are_forwarded_than_have_arrived(bytes: Vec<u8>) {
        for bytes in [bytes.clone(), [&b"HTTP/1.1 200 x\r\nA: "[..], &bytes, b"\r\n\r\n"].concat()] {
            if let Ok(FromBackend::Forward(count)) = asked().backend(&bytes) {
                prop_assert!((1..=bytes.len()).contains(&count));
                prop_assert!(bytes.starts_with(b"HTTP/1."));
            }
        }
    }
}

/// An exchange that waits for a response.
fn asked() -> Exchange {
    let mut exchange = Exchange::default();
    ask(&mut exchange, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    exchange
}
