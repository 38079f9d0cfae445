//! The table of routes: an exact name beats the longest wildcard, which beats the default.
//!
//! Within each of these three, a route for a protocol that the client offers beats a route for all
//! protocols. A lookup reads a map once per label of the name.

use std::collections::HashMap;

use crate::config::Config;
use crate::name::Pattern;

/// A route, and the protocols of which the client must offer at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Candidate {
    route: usize,
    alpn: Vec<Box<[u8]>>,
}

/// The routes of one listener.
#[derive(Debug, Default)]
struct Names {
    exact: HashMap<Box<str>, Vec<Candidate>>,
    below: HashMap<Box<str>, Vec<Candidate>>,
    default: Vec<Candidate>,
}

/// The routes of all listeners.
#[derive(Debug)]
pub struct Table {
    listeners: Vec<Names>,
}

impl Table {
    /// Builds the table from a configuration.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let mut listeners: Vec<Names> = config.listeners.iter().map(|_| Names::default()).collect();
        for (index, route) in config.routes.iter().enumerate() {
            let alpn = route.alpn.iter().map(|name| name.as_bytes().into()).collect();
            let candidate = Candidate { route: index, alpn };
            for listener in &route.listeners {
                let names = &mut listeners[*listener];
                for name in &route.names {
                    names.slot(name).push(candidate.clone());
                }
                if route.default {
                    names.default.push(candidate.clone());
                }
            }
        }
        Self { listeners }
    }

    /// Returns the index of the route for a name on a listener.
    ///
    /// `name` is normalised, or `None` for a client that gave no name.
    /// `alpn` is the client's list in TLS's form: each protocol after a byte with its length.
    #[must_use]
    pub fn find(&self, listener: usize, name: Option<&str>, alpn: &[u8]) -> Option<usize> {
        let names = self.listeners.get(listener)?;
        name.and_then(|name| names.named(name, alpn)).or_else(|| choose(&names.default, alpn))
    }
}

impl Names {
    fn slot(&mut self, pattern: &Pattern) -> &mut Vec<Candidate> {
        match pattern {
            Pattern::Exact(name) => self.exact.entry(name.as_str().into()).or_default(),
            Pattern::Below(suffix) => self.below.entry(suffix.as_str().into()).or_default(),
        }
    }

    fn named(&self, name: &str, alpn: &[u8]) -> Option<usize> {
        let exact = self.exact.get(name).and_then(|found| choose(found, alpn));
        exact.or_else(|| {
            let suffixes = name.match_indices('.').map(|(dot, _)| &name[dot + 1..]);
            let mut found = suffixes.filter_map(|suffix| self.below.get(suffix));
            found.find_map(|found| choose(found, alpn))
        })
    }
}

fn choose(candidates: &[Candidate], alpn: &[u8]) -> Option<usize> {
    let offered = |wanted: &[u8]| protocols(alpn).any(|protocol| protocol == wanted);
    let special = candidates.iter().find(|c| c.alpn.iter().any(|wanted| offered(wanted)));
    special.or_else(|| candidates.iter().find(|c| c.alpn.is_empty())).map(|found| found.route)
}

/// Splits a list in the form of RFC 7301: each protocol after a byte with its length.
fn protocols(mut list: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = list.split_first()?;
        let (protocol, rest) = rest.split_at_checked(usize::from(*length))?;
        list = rest;
        Some(protocol)
    })
}

#[cfg(test)]
mod tests {
    use super::Table;
    use crate::config::{Ports, parse};
    use proptest::prelude::*;

    /// Routes 0 to 5 on the TLS listener, 6 on the HTTP listener.
    const FILE: &str = r#"
[[route]]
names = ["a.test"]
listeners = ["https"]
backends = ["10.0.0.1:1"]
[[route]]
names = ["*.a.test"]
listeners = ["https"]
backends = ["10.0.0.1:1"]
[[route]]
names = ["*.b.a.test"]
listeners = ["https"]
backends = ["10.0.0.1:1"]
[[route]]
default = true
listeners = ["https"]
backends = ["10.0.0.1:1"]
[[route]]
names = ["a.test"]
alpn = ["acme-tls/1"]
backends = ["10.0.0.1:1"]
[[route]]
names = ["only.a.test"]
alpn = ["h2"]
backends = ["10.0.0.1:1"]
[[route]]
names = ["*.test"]
listeners = ["http"]
backends = ["10.0.0.1:1"]
"#;

    fn table() -> Table {
        Table::new(&parse(FILE, Ports::default()).unwrap())
    }

    #[test]
    fn exact_beats_the_longest_wildcard_beats_the_default() {
        let table = table();
        for (name, route) in [
            (Some("a.test"), 0),
            (Some("x.a.test"), 1),
            (Some("y.x.a.test"), 1),
            (Some("b.a.test"), 1),
            (Some("x.b.a.test"), 2),
            (Some("y.x.b.a.test"), 2),
            (Some("xa.test"), 3),
            (Some("test"), 3),
            (None, 3),
        ] {
            assert_eq!(table.find(0, name, b""), Some(route), "{name:?}");
        }
    }

    #[test]
    fn a_wildcard_does_not_match_its_suffix_and_listeners_are_separate() {
        let table = table();
        assert_eq!(table.find(1, Some("a.test"), b""), Some(6));
        assert_eq!(table.find(1, Some("test"), b""), None);
        assert_eq!(table.find(1, None, b""), None);
        assert_eq!(table.find(9, Some("a.test"), b""), None);
    }

    #[test]
    fn an_offered_protocol_may_go_to_its_own_backend() {
        let table = table();
        assert_eq!(table.find(0, Some("a.test"), b"\x0aacme-tls/1"), Some(4));
        assert_eq!(table.find(0, Some("a.test"), b"\x02h2\x08http/1.1"), Some(0));
        assert_eq!(table.find(0, Some("only.a.test"), b"\x02h2"), Some(5));
        assert_eq!(
            table.find(0, Some("only.a.test"), b""),
            Some(1),
            "without the protocol the route does not count"
        );
        assert_eq!(
            table.find(0, Some("a.test"), b"\xffacme-tls/1"),
            Some(0),
            "a length beyond the end"
        );
    }

    proptest! {
        #[test]
        fn every_name_has_the_route_that_a_linear_search_finds(
            labels in prop::collection::vec("a|b|test|only", 1..5),
        ) {
            let name = labels.join(".");
            // In the order of preference: exact names, then suffixes from the longest.
            let rules = [("a.test", 0), (".b.a.test", 2), (".a.test", 1)];
            let matches = |rule: &str| match rule.strip_prefix('.') {
                Some(_) => name.ends_with(rule) && name.len() > rule.len(),
                None => name == rule,
            };
            let expected = rules.iter().find(|(rule, _)| matches(rule)).map_or(3, |(_, route)| *route);
            prop_assert_eq!(table().find(0, Some(&name), b""), Some(expected));
        }

        #[test]
        fn a_malformed_list_of_protocols_still_finds_a_route(alpn: Vec<u8>) {
            let found = table().find(0, Some("a.test"), &alpn);
            prop_assert!(found == Some(0) || found == Some(4));
        }
    }
}
