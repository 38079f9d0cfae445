//! Requests and answers on any bytes: the exchange never panics, takes only what is there, and no
//! split changes what it says of a head.
//!
//! `cargo fuzz run -s none request` in `pkgs/gateway`.

#![no_main]

use gateway::http::exchange::{Exchange, FromBackend, FromClient};
use gateway::http::head;
use gateway::http::lines::Scan;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (mut client, mut backend) = input;
    let whole = head::parse(&mut Scan::default(), client);
    let mut scan = Scan::default();
    for end in 1..=client.len() {
        let part = head::parse(&mut scan, &client[..end]);
        if part != Ok(None) {
            assert_eq!(part, whole, "cut at {end}");
            break;
        }
    }
    let mut exchange = Exchange::default();
    for _ in 0..1000 {
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
    }
});
