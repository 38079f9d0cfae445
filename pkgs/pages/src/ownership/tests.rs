use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::claim::{Claim, SiteId};
use super::rules::{List, Rules, namespaces};
use super::verdict::{Reason, Verdict, sentence};
use super::{decide, hosts_to_prove};
use crate::api::Group;
use crate::key::SiteKey;
use crate::table::Address;

fn claim(key: &str, domain: &str, prefix: &str, created: i64) -> Claim {
    let key: SiteKey = key.parse().unwrap();
    Claim {
        uid: format!("uid-{key}"),
        id: SiteId { key, group: Group::Kiln },
        created,
        domain: (!domain.is_empty()).then(|| domain.to_owned()),
        prefix: (!prefix.is_empty()).then(|| prefix.to_owned()),
        held: None,
        previews: Vec::new(),
    }
}

fn rules(is_open: bool, list: &[(&str, &str)]) -> Rules {
    let (list, wrong) = List::read(list.iter().copied());
    assert!(wrong.is_empty(), "{wrong:?}");
    Rules { domain: "pages.test".to_owned(), is_open, list, ..Rules::default() }
}

/// Compares the verdicts: `HOST PREFIX` or the reason of a refusal, by site.
fn check(claims: &[Claim], rules: &Rules, expected: &[(&str, &str)]) {
    let found: BTreeMap<String, String> = decide(claims, rules)
        .into_iter()
        .map(|(id, verdict)| (id.key.to_string(), short(&verdict)))
        .collect();
    let pair = |(site, verdict): &(&str, &str)| ((*site).to_owned(), (*verdict).to_owned());
    assert_eq!(found, expected.iter().map(pair).collect());
}

fn short(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Granted { address, .. } => format!("{}{}", address.host, address.prefix),
        Verdict::Refused(refusal) => refusal.reason.name().to_owned(),
    }
}

#[test]
fn a_site_without_a_domain_has_a_name_in_the_part_of_its_namespace() {
    let mut other = claim("b/old", "", "", 1);
    other.id.group = Group::Kup6s;
    let mut dotted = claim("b/old.a", "", "", 1);
    dotted.id.group = Group::Kup6s;
    let claims = [claim("a/blog", "", "", 1), other, dotted, claim("a/p", "", "/x", 1)];
    let expected = [
        ("a/blog", "blog.a.pages.test"),
        ("b/old", "old.pages.test"),
        ("b/old.a", "Invalid"),
        ("a/p", "Invalid"),
    ];
    check(&claims, &rules(false, &[]), &expected);
}

#[test]
fn a_domain_needs_a_right() {
    let claims = [
        claim("a/listed", "www.a.example", "", 1),
        claim("b/not", "x.a.example", "", 1),
        claim("b/proven", "b.example", "", 1),
        claim("a/near", "xa.example", "", 1),
        claim("a/own", "docs.a.pages.test", "", 1),
        claim("b/theirs", "blog.a.pages.test", "", 1),
        claim("b/apex", "pages.test", "", 1),
        claim("a/reserved", "hooks.a.example", "", 1),
    ];
    let mut rules = rules(false, &[("a", "a.example, *.a.example")]);
    rules.proofs.insert("b.example".to_owned(), namespaces(["x", "namespace=b"].into_iter()));
    rules.reserved.insert("hooks.a.example".to_owned());
    let expected = [
        ("a/listed", "www.a.example"),
        ("b/not", "DomainNotAllowed"),
        ("b/proven", "b.example"),
        ("a/near", "DomainNotAllowed"),
        ("a/own", "docs.a.pages.test"),
        ("b/theirs", "DomainNotAllowed"),
        ("b/apex", "DomainNotAllowed"),
        ("a/reserved", "DomainNotAllowed"),
    ];
    check(&claims, &rules, &expected);
    let asked: BTreeSet<String> =
        ["x.a.example", "b.example", "xa.example"].map(str::to_owned).into();
    assert_eq!(hosts_to_prove(&claims, &rules), asked);
}

#[test]
fn a_domain_is_listed_for_one_namespace_even_where_domains_are_open() {
    let claims = [claim("b/first", "a.example", "", 1), claim("a/second", "A.example.", "", 2)];
    let expected = [("b/first", "DomainNotAllowed"), ("a/second", "a.example")];
    check(&claims, &rules(true, &[("a", "a.example")]), &expected);
}

#[test]
fn the_first_namespace_has_an_open_host_with_all_of_its_paths() {
    let claims = [
        claim("a/root", "a.example", "", 2),
        claim("b/path", "a.example", "/login", 3),
        claim("a/docs", "a.example", "/docs", 4),
        claim("a/docs2", "a.example", "/docs/", 5),
        claim("a/deeper", "a.example", "/docs/2019", 6),
    ];
    let expected = [
        ("a/root", "a.example"),
        ("b/path", "HostTaken"),
        ("a/docs", "a.example/docs"),
        ("a/docs2", "AddressTaken"),
        ("a/deeper", "a.example/docs/2019"),
    ];
    check(&claims, &rules(true, &[]), &expected);
    let verdicts = decide(&claims, &rules(true, &[]));
    let Verdict::Granted { rivals, .. } = &verdicts[&claims[0].id] else { panic!("granted") };
    assert_eq!(sentence(rivals).as_deref(), Some("also wanted by b/path"));
    let two = rules(false, &[("a", "a.example"), ("b", "a.example")]);
    assert_eq!(short(&decide(&claims, &two)[&claims[1].id]), "a.example/login");
}

#[test]
fn the_holder_keeps_a_name_then_the_oldest_has_it_then_the_lowest_uid() {
    let (a, b) = (claim("a/a", "x.example", "", 5), claim("b/b", "x.example", "", 5));
    check(
        &[b.clone(), a.clone()],
        &rules(true, &[]),
        &[("a/a", "x.example"), ("b/b", "HostTaken")],
    );
    let older = Claim { created: 1, ..b.clone() };
    let expected = [("a/a", "HostTaken"), ("b/b", "x.example")];
    check(&[a.clone(), older.clone()], &rules(true, &[]), &expected);
    let address = Address { host: "x.example".to_owned(), prefix: String::new() };
    let holder = Claim { held: Some(address), ..a };
    check(&[older, holder], &rules(true, &[]), &[("a/a", "x.example"), ("b/b", "HostTaken")]);
}

#[test]
fn a_key_is_served_for_one_group_only() {
    let own = claim("a/site", "", "", 2);
    let mut other = claim("a/site", "", "", 1);
    other.id.group = Group::Kup6s;
    let verdicts = decide(&[own.clone(), other.clone()], &rules(false, &[]));
    assert_eq!(short(&verdicts[&own.id]), "site.a.pages.test");
    assert_eq!(short(&verdicts[&other.id]), Reason::NameTaken.name());
}

#[test]
fn wrong_entries_of_the_list_are_returned() {
    let (_, wrong) = List::read([("a", "a.example *.b.example\n*,c")].into_iter());
    assert_eq!(wrong, ["a: *", "a: c"]);
}

prop_compose! {
    fn any_claim()(namespace in "[abc]", name in "[xyz]", host in "[pq]", prefix in "(/[uv]){0,2}",
        created in 0..4_i64, holds in any::<bool>(), group in 0..2_usize) -> Claim {
        let host = format!("{host}.example");
        let mut claim = claim(&format!("{namespace}/{name}"), &host, &prefix, created);
        claim.id.group = Group::ALL[group];
        claim.held = holds.then_some(Address { host, prefix });
        claim
    }
}

proptest! {
    /// No order of the claims and no state makes two owners of one name.
    #[test]
    fn a_name_has_one_owner(claims in prop::collection::vec(any_claim(), 0..12), listed in any::<bool>()) {
        let claims: Vec<Claim> =
            claims.into_iter().map(|claim| (claim.id.clone(), claim)).collect::<BTreeMap<_, _>>().into_values().collect();
        let list: &[(&str, &str)] = if listed { &[("a", "p.example"), ("b", "p.example")] } else { &[] };
        let rules = rules(true, list);
        let verdicts = decide(&claims, &rules);
        prop_assert_eq!(verdicts.len(), claims.len());
        let reversed: Vec<Claim> = claims.iter().rev().cloned().collect();
        prop_assert_eq!(&decide(&reversed, &rules), &verdicts);
        let mut addresses = BTreeSet::new();
        let mut hosts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (id, verdict) in &verdicts {
            let Verdict::Granted { address, .. } = verdict else { continue };
            prop_assert!(addresses.insert(address.clone()), "two owners of {address:?}");
            hosts.entry(address.host.clone()).or_default().insert(id.key.namespace().to_owned());
        }
        for (host, namespaces) in hosts {
            let is_listed = listed && host == "p.example";
            prop_assert!(namespaces.len() == 1 || is_listed, "{host} has {namespaces:?}");
        }
    }
}
