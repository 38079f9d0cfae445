use super::conf::Conf;
use super::resolver::{Action, LOOKUPS_MAX, Resolver};
use kiln_daemon::dns::{Family, Question};
use proptest::prelude::*;
use std::net::IpAddr;

const CONF: &str = "nameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch x.test y.test\noptions ndots:2 timeout:1 attempts:2\n";

fn conf(hosts: &str) -> Conf {
    Conf::parse(CONF, hosts)
}

/// A response to a question with these records: owner, type, seconds, data.
pub(crate) fn reply(question: &[u8], code: u8, records: &[(&str, u16, u32, Vec<u8>)]) -> Vec<u8> {
    let end = question.len() - 11;
    let mut packet = question[..end].to_vec();
    packet[2] |= 0x80;
    packet[3] = code;
    packet[7] = u8::try_from(records.len()).unwrap();
    packet[11] = 0;
    for (owner, kind, ttl, data) in records {
        packet.extend(wire(owner));
        packet.extend(kind.to_be_bytes());
        packet.extend([0, 1]);
        packet.extend(ttl.to_be_bytes());
        packet.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        packet.extend(data);
    }
    packet
}

fn wire(name: &str) -> Vec<u8> {
    let labels =
        name.split('.').flat_map(|l| [&[u8::try_from(l.len()).unwrap()], l.as_bytes()].concat());
    labels.chain([0]).collect()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn both_files_are_parsed() {
    let conf = conf("127.0.0.1 localhost me # comment\n::1 me\nnonsense\n");
    assert_eq!((conf.servers.len(), conf.ndots, conf.timeout, conf.attempts), (2, 2, 1000, 2));
    assert_eq!(conf.host("me").unwrap(), [ip("127.0.0.1"), ip("::1")]);
    assert_eq!(conf.candidates("a.b"), ["a.b.x.test", "a.b.y.test", "a.b"]);
    assert_eq!(conf.candidates("a.b.c"), ["a.b.c", "a.b.c.x.test", "a.b.c.y.test"]);
    assert_eq!(conf.candidates("a."), ["a"]);
    let empty = Conf::parse("", "");
    assert_eq!((empty.servers[0].to_string().as_str(), empty.ndots), ("127.0.0.1:53", 1));
    assert!(empty.host("localhost").is_some());
}

/// A resolver for one name, and its first questions.
fn begun(name: &str) -> (Resolver, Vec<Action>) {
    let mut resolver = Resolver::new(conf(""));
    resolver.add(name, 0);
    let actions = turn(&mut resolver, 0);
    (resolver, actions)
}

fn turn(resolver: &mut Resolver, now: u64) -> Vec<Action> {
    let mut id = 100;
    let actions = resolver.turn(now, &mut || {
        id += 1;
        id
    });
    actions.into_iter().filter(|action| matches!(action, Action::Send { .. })).collect()
}

fn sent(action: &Action) -> (u32, String, bool, &[u8]) {
    let Action::Send { query, server, tcp, packet } = action else { panic!("{action:?}") };
    (*query, server.ip().to_string(), *tcp, packet)
}

/// Responds to both questions for a name: with this address, or with no records.
fn respond(
    resolver: &mut Resolver,
    actions: &[Action],
    owner: &str,
    address: Option<[u8; 4]>,
    code: u8,
) {
    for (index, action) in actions.iter().enumerate() {
        let (query, _, _, packet) = sent(action);
        let record = address.filter(|_| index == 0).map(|ip| (owner, 1, 60, ip.to_vec()));
        resolver.received(query, &reply(packet, code, record.as_slice()));
    }
}

#[test]
fn both_families_are_queried_and_the_result_is_valid_for_its_ttl() {
    let (mut resolver, actions) = begun("a.b.c");
    assert_eq!(actions.len(), 2);
    assert_eq!(resolver.addresses("a.b.c"), None);
    respond(&mut resolver, &actions, "a.b.c", Some([10, 0, 0, 9]), 0);
    assert!(turn(&mut resolver, 10).is_empty());
    assert_eq!(resolver.addresses("a.b.c").unwrap(), [ip("10.0.0.9")]);
    assert_eq!(resolver.next(), Some(60_010));
    assert_eq!(turn(&mut resolver, 60_010).len(), 2);
    assert_eq!(
        resolver.addresses("a.b.c").unwrap(),
        [ip("10.0.0.9")],
        "the old address stays in use meanwhile"
    );
}

#[test]
fn a_name_with_few_dots_is_tried_in_the_search_domains() {
    let (mut resolver, mut actions) = begun("a");
    for candidate in ["a.x.test", "a.y.test", "a"] {
        let wanted = Question::new(101, candidate, Family::V4).unwrap().message_with_edns();
        assert_eq!(sent(&actions[0]).3, wanted);
        respond(&mut resolver, &actions, candidate, None, 3);
        actions = turn(&mut resolver, 1);
    }
    assert!(actions.is_empty());
    assert_eq!(resolver.addresses("a").unwrap(), [] as [IpAddr; 0]);
}

#[test]
fn after_a_silent_or_failing_server_the_next_is_queried() {
    let (mut resolver, first) = begun("a.b.c");
    assert_eq!(sent(&first[0]).1, "10.0.0.1");
    let second = turn(&mut resolver, 1000);
    assert_eq!((second.len(), sent(&second[0]).1.as_str()), (2, "10.0.0.2"));
    respond(&mut resolver, &first, "a.b.c", Some([6, 6, 6, 6]), 0);
    assert_eq!(turn(&mut resolver, 1001), [], "a late response is ignored");
    respond(&mut resolver, &second, "a.b.c", None, 2);
    let third = turn(&mut resolver, 1002);
    assert_eq!(sent(&third[0]).1, "10.0.0.1", "the second round");
    resolver.failed(sent(&third[0]).0);
    resolver.failed(sent(&third[1]).0);
    let fourth = turn(&mut resolver, 1003);
    assert_eq!(sent(&fourth[1]).1, "10.0.0.2");
    assert!(turn(&mut resolver, 9000).is_empty(), "after all attempts there is a pause");
    assert_eq!(resolver.addresses("a.b.c").unwrap(), [] as [IpAddr; 0]);
    assert_eq!(turn(&mut resolver, 10_000).len(), 2);
}

#[test]
fn addresses_stay_in_use_while_no_server_responds() {
    let (mut resolver, actions) = begun("a.b.c");
    respond(&mut resolver, &actions, "a.b.c", Some([10, 0, 0, 9]), 0);
    turn(&mut resolver, 0);
    for now in (60_000..300_000).step_by(500) {
        turn(&mut resolver, now);
        assert_eq!(resolver.addresses("a.b.c").unwrap(), [ip("10.0.0.9")]);
    }
}

#[test]
fn a_truncated_response_is_requested_again_over_tcp() {
    let (mut resolver, actions) = begun("a.b.c");
    let (query, server, tcp, packet) = sent(&actions[0]);
    assert!(!tcp);
    let mut cut = reply(packet, 0, &[]);
    cut[2] |= 2;
    resolver.received(query, &cut);
    let again = turn(&mut resolver, 1);
    let [again] = &again[..] else { panic!("{again:?}") };
    assert_eq!((sent(again).1, sent(again).2), (server, true));
    // If the response over TCP is truncated too, the next server is queried.
    let (query, _, _, packet) = sent(again);
    let mut cut = reply(packet, 0, &[]);
    cut[2] |= 2;
    resolver.received(query, &cut);
    let next = turn(&mut resolver, 2);
    assert_eq!((sent(&next[0]).1.as_str(), sent(&next[0]).2), ("10.0.0.2", false));
}

#[test]
fn a_name_in_hosts_needs_no_server() {
    let mut resolver = Resolver::new(conf("10.9.9.9 a"));
    resolver.add("a", 0);
    resolver.add("localhost", 0);
    assert!(turn(&mut resolver, 0).is_empty());
    assert_eq!(resolver.addresses("a").unwrap(), [ip("10.9.9.9")]);
    resolver.configure(conf("10.8.8.8 a"), 5);
    turn(&mut resolver, 5);
    assert_eq!(resolver.addresses("a").unwrap(), [ip("10.8.8.8")]);
}

proptest! {
    #[test]
    fn a_packet_with_another_number_changes_nothing(tail: Vec<u8>, keep in 2_usize..40, count: u8) {
        let (mut resolver, actions) = begun("a.b.c");
        let (query, _, _, question) = sent(&actions[0]);
        let mut packet = question[..keep.min(question.len())].to_vec();
        packet.extend(tail);
        packet[1] ^= 1;
        if packet.len() > 7 { packet[2] |= 0x80; packet[7] = count; }
        let next = resolver.next();
        prop_assert!(resolver.received(query, &packet).is_empty());
        prop_assert_eq!(resolver.next(), next);
        prop_assert_eq!(resolver.addresses("a.b.c"), None);
    }

    #[test]
    fn after_any_packet_the_resolver_continues_in_time(tail: Vec<u8>, keep in 0_usize..40, count: u8) {
        let (mut resolver, actions) = begun("a.b.c");
        let mut packet = sent(&actions[0]).3.to_vec();
        packet.truncate(keep);
        packet.extend(tail);
        if packet.len() > 7 { packet[2] |= 0x80; packet[7] = count; }
        resolver.received(sent(&actions[0]).0, &packet);
        turn(&mut resolver, 1);
        prop_assert!(resolver.next().is_some_and(|next| next <= 1 + 3_600_000));
    }

    #[test]
    fn every_file_gives_a_usable_configuration(
        text in "(nameserver|search|options|domain)? ?.{0,60}\n?",
    ) {
        let conf = Conf::parse(&text, &text);
        prop_assert!((1..=3).contains(&conf.servers.len()) && (1..=5).contains(&conf.attempts));
        prop_assert!((1000..=30_000).contains(&conf.timeout));
        prop_assert!(conf.candidates("a.b").contains(&"a.b".to_owned()));
    }
}

#[test]
fn any_number_of_names_has_few_questions_at_once() {
    let names: Vec<String> = (0..5000).map(|number| format!("n{number}.a.b.test")).collect();
    let mut resolver = Resolver::new(conf(""));
    for name in &names {
        resolver.add(name, 0);
    }
    let mut open = std::collections::BTreeMap::new();
    let mut most = 0;
    let mut actions = turn(&mut resolver, 0);
    loop {
        for action in actions {
            match action {
                Action::Send { query, packet, .. } => drop(open.insert(query, packet)),
                Action::Close(query) => drop(open.remove(&query)),
            }
        }
        most = most.max(open.len());
        let Some((query, packet)) = open.pop_first() else { break };
        resolver.received(query, &reply(&packet, 3, &[]));
        actions = turn(&mut resolver, 0);
    }
    assert_eq!(most, 2 * LOOKUPS_MAX);
    assert!(names.iter().all(|name| resolver.addresses(name) == Some(&[][..])));
    assert_eq!(resolver.take_changed().len(), names.len());
}

/// Returns the names that packets ask for.
fn asked(actions: &[Action]) -> Vec<String> {
    let name = |action: &Action| match action {
        Action::Send { packet, .. } => Some(String::from_utf8_lossy(&packet[13..]).into_owned()),
        Action::Close(_) => None,
    };
    actions.iter().filter_map(name).collect()
}

#[test]
fn a_name_that_a_client_waits_for_is_resolved_before_all_others() {
    let mut resolver = Resolver::new(conf(""));
    (0..5000).for_each(|number| resolver.add(&format!("n{number}.a.b.test"), 0));
    assert_eq!(turn(&mut resolver, 0).len(), 2 * LOOKUPS_MAX);
    // No server responds, so all places are taken.
    resolver.prefer("n4999.a.b.test", 0);
    resolver.prefer("unknown.a.b.test", 0);
    assert_eq!(resolver.next(), Some(0));
    let actions = turn(&mut resolver, 0);
    let names = asked(&actions);
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(names.iter().all(|name| name.starts_with("n4999") || name.starts_with("unknown")));
    // Neither a name that is being resolved nor a known one is asked for again.
    for action in &actions {
        let Action::Send { query, packet, .. } = action else { continue };
        resolver.received(*query, &reply(packet, 3, &[]));
    }
    turn(&mut resolver, 0);
    resolver.prefer("n4999.a.b.test", 0);
    resolver.prefer("n0.a.b.test", 0);
    assert_eq!(asked(&turn(&mut resolver, 0)), Vec::<String>::new());
}

#[test]
fn a_name_that_is_removed_is_forgotten_in_every_state() {
    let (mut resolver, actions) = begun("a.b.test");
    resolver.add("rests.b.test", 9);
    resolver.prefer("urgent.b.test", 9);
    let closed = resolver.remove("a.b.test");
    assert_eq!((actions.len(), closed.len()), (2, 2));
    assert_eq!(resolver.remove("rests.b.test"), []);
    assert_eq!(resolver.remove("urgent.b.test"), []);
    assert_eq!(turn(&mut resolver, 10), []);
    assert_eq!((resolver.next(), resolver.addresses("a.b.test")), (None, None));
}
