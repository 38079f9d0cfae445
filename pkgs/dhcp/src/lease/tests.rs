use super::{Lease, LeaseError, Route, search_list};
use crate::message::{Kind, Message, Options, option};
use proptest::prelude::*;
use std::net::Ipv4Addr;
use std::time::Duration;

const SINCE: Duration = Duration::from_secs(1000);

/// Builds an ACK with a lease of 80 s, and with these options.
pub(crate) fn ack(options: &[(u8, &[u8])]) -> Message {
    let mut all = Options::from([
        (option::SERVER, vec![10, 0, 2, 2]),
        (option::LEASE_TIME, 80_u32.to_be_bytes().to_vec()),
    ]);
    all.extend(options.iter().map(|(code, value)| (*code, value.to_vec())));
    Message {
        reply: true,
        kind: Kind::Ack,
        transaction: 1,
        seconds: 0,
        client: Ipv4Addr::UNSPECIFIED,
        yours: Ipv4Addr::new(10, 0, 2, 15),
        hardware: [2, 0, 0, 0, 0, 1],
        options: all,
    }
}

fn lease(options: &[(u8, &[u8])]) -> Lease {
    Lease::new(&ack(options), SINCE).unwrap()
}

#[test]
fn an_unusable_lease_is_refused_with_the_reason() {
    let check = |message: &Message, expected| {
        assert_eq!(Lease::new(message, SINCE).unwrap_err(), expected);
    };
    check(&ack(&[(option::SERVER, &[])]), LeaseError::NoServer);
    check(&ack(&[(option::LEASE_TIME, &[])]), LeaseError::Time(None));
    check(&ack(&[(option::LEASE_TIME, &[0, 0, 0, 1])]), LeaseError::Time(Some(1)));
    for address in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255; 4]] {
        let message = Message { yours: address.into(), ..ack(&[]) };
        check(&message, LeaseError::Address(address.into()));
    }
}

#[test]
fn a_secondary_interface_has_all_routes_but_the_default_one() {
    let routes = [0, 10, 0, 2, 3, 8, 10, 10, 0, 2, 4];
    let lease = lease(&[(option::ROUTES, &routes)]);
    let secondary = lease.without_default_route();
    assert_eq!((lease.routes.len(), lease.router()), (2, Some(Ipv4Addr::new(10, 0, 2, 3))));
    assert_eq!((&secondary.routes[..], secondary.router()), (&lease.routes[1..], None));
    assert_eq!(Lease { routes: lease.routes.clone(), ..secondary }, lease);
}

#[test]
fn consistent_times_of_the_server_are_used() {
    let check = |options: &[(u8, &[u8])], expected: (u64, u64, u64)| {
        let lease = lease(options);
        let seconds = |time: Duration| time.saturating_sub(SINCE).as_secs();
        let times = (seconds(lease.renew_at), seconds(lease.rebind_at), seconds(lease.expires));
        assert_eq!(times, expected);
    };
    check(&[], (40, 70, 80));
    check(&[(58, &[0, 0, 0, 20]), (59, &[0, 0, 0, 30])], (20, 30, 80));
    check(&[(58, &[0, 0, 0, 20])], (20, 70, 80));
    check(&[(58, &[0, 0, 0, 75])], (40, 70, 80));
    check(&[(59, &[0, 0, 0, 60])], (40, 60, 80));
    check(&[(58, &[0, 0, 0, 30]), (59, &[0, 0, 0, 20])], (40, 70, 80)); // T2 before T1
    check(&[(58, &[0, 0, 0, 20]), (59, &[0, 0, 0, 90])], (40, 70, 80)); // T2 after the end
    check(&[(58, &[0; 4]), (59, &[0; 4])], (40, 70, 80));
}

#[test]
fn an_infinite_lease_never_expires() {
    let lease = lease(&[(option::LEASE_TIME, &[255; 4])]);
    assert_eq!((lease.renew_at, lease.remaining(SINCE)), (Duration::MAX, None));
}

#[test]
fn a_mask_with_holes_is_ignored() {
    let check = |mask: &[u8], expected| assert_eq!(lease(&[(1, mask)]).prefix, expected);
    check(&[255, 255, 255, 0], 24);
    check(&[255, 255, 255, 255], 32);
    check(&[255, 255, 254, 0], 23);
    check(&[255, 0, 255, 0], 8);
    check(&[255, 255], 8);
}

#[test]
fn classless_routes_replace_the_router() {
    let check = |classless: &[u8], expected: &[(&str, u8, Option<&str>)]| {
        let routes = lease(&[(3, &[10, 0, 2, 2]), (121, classless)]).routes;
        let expected: Vec<_> = expected
            .iter()
            .map(|(destination, prefix, gateway)| Route {
                destination: destination.parse().unwrap(),
                prefix: *prefix,
                gateway: gateway.map(|gateway| gateway.parse().unwrap()),
            })
            .collect();
        assert_eq!(routes, expected);
    };
    let by_router = &[("0.0.0.0", 0, Some("10.0.2.2"))];
    check(&[0, 10, 0, 2, 9], &[("0.0.0.0", 0, Some("10.0.2.9"))]);
    check(
        &[32, 10, 9, 9, 9, 0, 0, 0, 0, 12, 172, 31, 10, 0, 2, 3],
        &[("10.9.9.9", 32, None), ("172.16.0.0", 12, Some("10.0.2.3"))],
    );
    check(&[], by_router);
    check(&[33, 1, 2, 3, 4, 5, 10, 0, 2, 9], by_router); // no such prefix
    check(&[24, 10, 0, 0, 10, 0, 2], by_router); // cut off
    check(&[0, 10, 0, 2, 9].repeat(65), by_router); // a flood
}

#[test]
fn an_mtu_that_is_too_small_for_ipv4_is_ignored() {
    assert_eq!(lease(&[(26, &[5, 120])]).mtu, Some(1400));
    assert_eq!(lease(&[(26, &[0, 68])]).mtu, None);
    assert_eq!(lease(&[(26, &[1])]).mtu, None);
}

#[test]
fn only_names_that_are_safe_in_a_file_are_used() {
    let check = |code, value: &[u8], expected: &[&str]| {
        assert_eq!(lease(&[(code, value)]).search, expected);
    };
    check(15, b"example.org", &["example.org"]);
    check(15, b"example.org\0", &["example.org"]);
    check(15, b"a b", &[]);
    check(15, b"a\nnameserver 6.6.6.6", &[]);
    check(15, b"a..b", &[]);
    check(
        119,
        b"\x03eng\x05apple\x03com\0\x09marketing\xc0\x04",
        &["eng.apple.com", "marketing.apple.com"],
    );
    check(119, b"\x02a\n\0", &[]);
}

#[test]
fn a_cycle_of_pointers_is_refused() {
    assert_eq!(search_list(b"\xc0\x00"), None);
    assert_eq!(search_list(b"\x01a\xc0\x00"), None);
    assert_eq!(search_list(b"\x01a\xc0\x02\xc0\x00"), None);
}

proptest! {
    #[test]
    fn any_option_gives_an_error_or_a_bounded_lease(code in prop::sample::select(vec![1_u8, 3, 6, 15, 26, 51, 54, 58, 59, 119, 121]), value: Vec<u8>) {
        if let Ok(lease) = Lease::new(&ack(&[(code, &value)]), SINCE) {
            prop_assert!(lease.renew_at <= lease.rebind_at && lease.rebind_at <= lease.expires);
            prop_assert!(lease.prefix <= 32 && lease.routes.len() <= 64);
        }
    }
}
