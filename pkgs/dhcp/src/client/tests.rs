//! The client against a small server, with faults of server, link and clock.

use std::net::Ipv4Addr;
use std::time::Duration;

use proptest::prelude::*;

use super::{Action, Client, Identity};
use crate::Time;
use crate::lease::Lease;
use crate::message::{Kind, Message, Options, option};

const HARDWARE: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 99);
const LEASE: u32 = 3600;

fn seconds(seconds: u64) -> Time {
    Duration::from_secs(seconds)
}

fn client(now: Time, earlier: Option<Lease>) -> Client {
    Client::new(Identity { hardware: HARDWARE, host_name: None }, 1, now, earlier)
}

/// Builds a server's reply to a request.
fn reply(asked: &Message, kind: Kind, address: Ipv4Addr) -> Message {
    let options = Options::from([
        (option::SERVER, SERVER.octets().into()),
        (option::LEASE_TIME, LEASE.to_be_bytes().into()),
    ]);
    Message {
        reply: true,
        kind,
        transaction: asked.transaction,
        seconds: 0,
        client: asked.client,
        yours: address,
        hardware: asked.hardware,
        options,
    }
}

/// Returns the only message that is sent, and true if it is a broadcast.
fn sent(actions: impl IntoIterator<Item = Action>) -> (Message, bool) {
    let mut messages = actions.into_iter().filter_map(|action| match action {
        Action::Broadcast(message) => Some((message, true)),
        Action::Unicast(SERVER, message) => Some((message, false)),
        _ => None,
    });
    let first = messages.next().expect("a message");
    assert_eq!(messages.next(), None);
    first
}

fn configured(action: Option<Action>) -> (Lease, Option<Lease>) {
    match action {
        Some(Action::Configure { lease, before }) => (*lease, before.map(|lease| *lease)),
        other => panic!("{other:?}"),
    }
}

/// Returns a client that got its lease at 0 s.
fn bound() -> (Client, Lease) {
    let mut client = client(seconds(0), None);
    let (discover, _) = sent(client.poll(seconds(0)));
    let (request, _) = sent(client.handle(seconds(0), &reply(&discover, Kind::Offer, ADDRESS)));
    let (lease, before) =
        configured(client.handle(seconds(0), &reply(&request, Kind::Ack, ADDRESS)));
    assert_eq!((before, client.listens(), client.poll_at()), (None, false, seconds(1800)));
    (client, lease)
}

/// Polls until `end`, whenever the client is due; returns each action with its time in seconds.
fn silence(client: &mut Client, end: Time) -> Vec<(u64, Action)> {
    let mut done = Vec::new();
    while client.poll_at() <= end {
        let now = client.poll_at();
        done.extend(client.poll(now).into_iter().map(|action| (now.as_secs(), action)));
    }
    done
}

#[test]
fn the_first_discover_goes_out_at_once_and_an_offer_is_taken_at_once() {
    let mut client = client(seconds(5), None);
    assert_eq!(client.poll_at(), seconds(5));
    let (discover, broadcast) = sent(client.poll(seconds(5)));
    assert_eq!((discover.kind, broadcast, discover.seconds), (Kind::Discover, true, 0));
    let wanted = &discover.options[&option::PARAMETERS];
    let position = |code| wanted.iter().position(|wanted| *wanted == code);
    assert!(position(option::ROUTES) < position(option::ROUTER), "RFC 3442");

    let (request, broadcast) =
        sent(client.handle(seconds(5), &reply(&discover, Kind::Offer, ADDRESS)));
    assert_eq!(
        (request.kind, broadcast, request.client),
        (Kind::Request, true, Ipv4Addr::UNSPECIFIED)
    );
    assert_eq!(request.address(option::REQUESTED), Some(ADDRESS));
    assert_eq!(request.address(option::SERVER), Some(SERVER));
}

#[test]
fn a_lost_discover_is_repeated_with_doubled_pauses() {
    let mut client = client(seconds(0), None);
    let times: Vec<u64> = silence(&mut client, seconds(300)).iter().map(|(at, _)| *at).collect();
    let pauses: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    for (pause, expected) in pauses.into_iter().zip([1, 2, 4, 8, 16, 32, 64, 64]) {
        assert!(pause.abs_diff(expected) <= 2, "{times:?}");
    }
    assert!(times.len() >= 8);
}

#[test]
fn an_offer_whose_server_falls_silent_is_abandoned() {
    let mut client = client(seconds(0), None);
    let (discover, _) = sent(client.poll(seconds(0)));
    client.handle(seconds(0), &reply(&discover, Kind::Offer, ADDRESS));
    let done = silence(&mut client, seconds(30));
    let kinds: Vec<Kind> = done.into_iter().map(|(_, action)| sent([action]).0.kind).collect();
    assert_eq!(kinds[..4], [Kind::Request, Kind::Request, Kind::Request, Kind::Discover]);
}

#[test]
fn a_renewal_goes_only_to_the_server_and_counts_from_the_request() {
    let (mut client, first) = bound();
    let (request, broadcast) = sent(client.poll(seconds(1800)));
    assert_eq!((request.kind, broadcast, request.client), (Kind::Request, false, ADDRESS));
    assert_eq!(request.options.get(&option::REQUESTED), None, "RFC 2131, table 5");
    assert_eq!(request.options.get(&option::SERVER), None, "RFC 2131, table 5");
    assert!(client.listens());

    let ack = reply(&request, Kind::Ack, ADDRESS);
    let (lease, before) = configured(client.handle(seconds(1801), &ack));
    assert_eq!((lease.since, lease.expires), (seconds(1800), seconds(5400)));
    assert_eq!(before, Some(first));
}

#[test]
fn after_t2_any_server_may_extend_the_lease() {
    let (mut client, _) = bound();
    let done = silence(&mut client, seconds(3200));
    let (at, action) = done.into_iter().find(|(at, _)| *at >= 3150).unwrap();
    let (request, broadcast) = sent([action]);
    assert_eq!((at, broadcast, request.client), (3150, true, ADDRESS));

    let mut ack = reply(&request, Kind::Ack, ADDRESS);
    ack.options.insert(option::SERVER, OTHER.octets().into());
    let (lease, _) = configured(client.handle(seconds(3201), &ack));
    assert_eq!(lease.server, OTHER);
}

#[test]
fn a_lease_that_is_not_extended_expires_and_the_search_starts_again() {
    let (mut client, lease) = bound();
    let done = silence(&mut client, seconds(3601));
    let end = done.iter().position(|(_, action)| matches!(action, Action::Deconfigure(_))).unwrap();
    assert_eq!(done[end], (3600, Action::Deconfigure(Box::new(lease))));
    assert_eq!(sent([done[end + 1].1.clone()]).0.kind, Kind::Discover);
    assert_eq!(client.lease(), None);
}

#[test]
fn short_leases_get_more_than_one_attempt_too() {
    let mut client = client(seconds(0), None);
    let (discover, _) = sent(client.poll(seconds(0)));
    let (request, _) = sent(client.handle(seconds(0), &reply(&discover, Kind::Offer, ADDRESS)));
    let mut ack = reply(&request, Kind::Ack, ADDRESS);
    ack.options.insert(option::LEASE_TIME, 20_u32.to_be_bytes().into());
    configured(client.handle(seconds(0), &ack));
    let done = silence(&mut client, seconds(19));
    let unicasts = done.iter().filter(|(_, action)| matches!(action, Action::Unicast(..))).count();
    assert!(unicasts >= 2 && done.len() - unicasts >= 2, "{done:?}");
    assert!(done.len() < 12, "{done:?}");
}

#[test]
fn a_suspend_past_the_expiry_drops_the_lease() {
    let (mut client, lease) = bound();
    let done = client.poll(seconds(100_000));
    assert!(done.contains(&Action::Deconfigure(Box::new(lease))));
    assert_eq!(client.lease(), None);
    assert!(client.poll_at() > seconds(100_000));
}

/// Brings a client into a state in which a NAK can arrive; returns the request and its time.
fn requesting_in(state: &str) -> (Client, Message, Time) {
    match state {
        "requesting" => {
            let mut client = client(seconds(0), None);
            let (discover, _) = sent(client.poll(seconds(0)));
            let (request, _) =
                sent(client.handle(seconds(0), &reply(&discover, Kind::Offer, ADDRESS)));
            (client, request, seconds(0))
        }
        "rebooting" => {
            let mut client = client(seconds(10), Some(bound().1));
            let (request, _) = sent(client.poll(seconds(10)));
            (client, request, seconds(10))
        }
        "renewing" => {
            let (mut client, _) = bound();
            let (request, _) = sent(client.poll(seconds(1800)));
            (client, request, seconds(1800))
        }
        _ => {
            let (mut client, _) = bound();
            let (request, _) = sent(client.poll(seconds(3150)));
            (client, request, seconds(3150))
        }
    }
}

#[test]
fn a_nak_in_any_state_restarts_the_search_at_once() {
    for state in ["requesting", "rebooting", "renewing", "rebinding"] {
        let (mut client, request, now) = requesting_in(state);
        let had = client.lease().cloned();
        let action = client.handle(now, &reply(&request, Kind::Nak, Ipv4Addr::UNSPECIFIED));
        assert_eq!(action, had.map(|lease| Action::Deconfigure(Box::new(lease))), "{state}");
        let (discover, _) = sent(client.poll(now));
        assert_eq!(discover.kind, Kind::Discover, "{state}");
        assert_ne!(discover.transaction, request.transaction, "{state}");
    }
}

#[test]
fn a_nak_without_an_open_request_changes_nothing() {
    let (mut client, lease) = bound();
    let (request, _) = sent(self::client(seconds(0), None).poll(seconds(0)));
    assert_eq!(client.handle(seconds(1), &reply(&request, Kind::Nak, ADDRESS)), None);
    assert_eq!(client.lease(), Some(&lease));

    let mut client = self::client(seconds(0), None);
    let (discover, _) = sent(client.poll(seconds(0)));
    assert_eq!(client.handle(seconds(0), &reply(&discover, Kind::Nak, ADDRESS)), None);
    assert!(client.poll_at() > seconds(0), "still selecting");
}

#[test]
fn only_the_server_of_the_request_can_refuse() {
    for state in ["requesting", "renewing"] {
        let (mut client, request, now) = requesting_in(state);
        let mut nak = reply(&request, Kind::Nak, Ipv4Addr::UNSPECIFIED);
        nak.options.insert(option::SERVER, OTHER.octets().into());
        assert_eq!(client.handle(now, &nak), None);
        let ack = client.handle(now, &reply(&request, Kind::Ack, ADDRESS));
        assert!(matches!(ack, Some(Action::Configure { .. })), "{state}");
    }
}

#[test]
fn a_server_that_alternately_offers_and_refuses_causes_no_storm() {
    let mut client = client(seconds(0), None);
    let mut discovers = 0;
    while client.poll_at() < seconds(120) {
        let now = client.poll_at();
        for action in client.poll(now) {
            let (discover, _) = sent([action]);
            discovers += 1;
            let (request, _) = sent(client.handle(now, &reply(&discover, Kind::Offer, ADDRESS)));
            client.handle(now, &reply(&request, Kind::Nak, ADDRESS));
        }
    }
    assert!((6..=9).contains(&discovers), "{discovers}");
}

#[test]
fn a_restarted_client_confirms_its_lease_and_keeps_it() {
    let (_, lease) = bound();
    let mut client = client(seconds(10), Some(lease.clone()));
    assert_eq!(client.lease(), Some(&lease), "the address stays in use");
    let (request, broadcast) = sent(client.poll(seconds(10)));
    assert_eq!(
        (request.kind, broadcast, request.client),
        (Kind::Request, true, Ipv4Addr::UNSPECIFIED)
    );
    assert_eq!(request.address(option::REQUESTED), Some(ADDRESS));
    assert_eq!(request.options.get(&option::SERVER), None, "RFC 2131, table 5");
    let (new, before) =
        configured(client.handle(seconds(10), &reply(&request, Kind::Ack, ADDRESS)));
    assert_eq!((new.address, before), (ADDRESS, Some(lease)));
}

#[test]
fn a_restarted_client_without_a_reply_continues_with_its_lease() {
    let (_, lease) = bound();
    let mut client = client(seconds(10), Some(lease.clone()));
    let done = silence(&mut client, seconds(30));
    let (resumed, _) = configured(done.last().map(|(_, action)| action.clone()));
    assert_eq!((done.len(), resumed), (4, lease.clone()));
    assert_eq!(client.poll_at(), lease.renew_at);
}

#[test]
fn an_expired_lease_of_an_earlier_run_is_not_used() {
    let (_, lease) = bound();
    let mut client = client(lease.expires, Some(lease.clone()));
    assert_eq!(sent(client.poll(lease.expires)).0.kind, Kind::Discover);
}

#[test]
fn another_address_replaces_the_one_in_use() {
    let (mut client, request, now) = requesting_in("renewing");
    let (lease, before) = configured(client.handle(now, &reply(&request, Kind::Ack, OTHER)));
    assert_eq!((lease.address, before.unwrap().address), (OTHER, ADDRESS));
}

#[test]
fn the_lease_is_confirmed_after_the_link_came_back() {
    let (mut client, lease) = bound();
    client.link_returned(seconds(100));
    let (request, _) = sent(client.poll(seconds(100)));
    assert_eq!(request.address(option::REQUESTED), Some(ADDRESS));
    assert_eq!(client.lease(), Some(&lease));
}

#[test]
fn a_link_that_settles_late_repeats_only_an_unanswered_discover() {
    let mut selecting = client(seconds(0), None);
    selecting.poll(seconds(0));
    let settled = Duration::from_millis(200);
    selecting.link_settled(settled);
    assert_eq!(sent(selecting.poll(settled)).0.kind, Kind::Discover);

    let (mut bound, lease) = bound();
    bound.link_settled(settled);
    assert_eq!((bound.poll(settled), bound.lease()), (vec![], Some(&lease)));
    let (mut requesting, ..) = requesting_in("requesting");
    requesting.link_settled(settled);
    assert_eq!(requesting.poll(settled), []);
}

#[test]
fn a_message_that_is_not_a_reply_to_the_client_is_ignored() {
    let changes: [fn(&mut Message); 7] = [
        |message| message.transaction ^= 1,
        |message| message.hardware[5] ^= 1,
        |message| message.reply = false,
        |message| message.yours = Ipv4Addr::LOCALHOST,
        |message| drop(message.options.remove(&option::SERVER)),
        |message| drop(message.options.remove(&option::LEASE_TIME)),
        |message| drop(message.options.insert(option::LEASE_TIME, vec![0; 4])),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        for state in ["requesting", "rebooting", "renewing", "rebinding"] {
            let (mut client, request, now) = requesting_in(state);
            let mut ack = reply(&request, Kind::Ack, ADDRESS);
            change(&mut ack);
            assert_eq!(client.handle(now, &ack), None, "change {number} while {state}");
        }
    }
}

proptest! {
    /// For every sequence of messages and pauses: the next deadline is later than now, few packets are
    /// sent, an expired lease is not in use, and the caller learns of every change.
    #[test]
    fn every_history_keeps_the_invariants(steps in prop::collection::vec((0_u64..2000, 0_u8..6, 5_u32..5000), 1..60)) {
        let mut now = seconds(0);
        let mut client = client(now, None);
        let mut asked: Option<Message> = None;
        let mut in_use: Option<Lease> = None;
        for (passed, what, lease_time) in steps {
            now += Duration::from_millis(passed * 100);
            let mut actions = client.poll(now);
            prop_assert!(client.poll_at() > now && actions.len() <= 4);
            if let Some(asked) = asked.as_ref().filter(|_| what < 5) {
                let kind = [Kind::Offer, Kind::Ack, Kind::Ack, Kind::Nak, Kind::Discover][usize::from(what)];
                let mut message = reply(asked, kind, if what == 2 { OTHER } else { ADDRESS });
                message.options.insert(option::LEASE_TIME, lease_time.to_be_bytes().into());
                actions.extend(client.handle(now, &message));
            }
            for action in actions {
                match action {
                    Action::Broadcast(message) | Action::Unicast(_, message) => asked = Some(message),
                    Action::Configure { lease, before } => {
                        prop_assert_eq!(before.map(|lease| *lease), in_use);
                        in_use = Some(*lease);
                    }
                    Action::Deconfigure(lease) => {
                        prop_assert_eq!(Some(*lease), in_use);
                        in_use = None;
                    }
                }
            }
            prop_assert_eq!(client.lease(), in_use.as_ref());
        }
    }
}
