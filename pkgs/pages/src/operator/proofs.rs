//! The DNS records of domains: which answers are known, and which to ask for. Pure, with time as an
//! argument.
//!
//! A right that a record gave lasts until an answer without the record arrives; a server that does not
//! answer takes nothing away.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The time after which a record is looked at again.
const KNOWN: Duration = Duration::from_hours(1);

/// The time after which a missing record is looked for again: a user waits for it.
const MISSING: Duration = Duration::from_secs(30);

/// The longest such time for a record that stays away.
const MISSING_MAX: Duration = Duration::from_mins(30);

/// The known records.
#[derive(Debug, Clone, Default)]
pub struct Proofs {
    hosts: BTreeMap<String, Known>,
}

#[derive(Debug, Clone, Default)]
struct Known {
    namespaces: BTreeSet<String>,
    due: Duration,
    misses: u32,
    is_asked: bool,
}

impl Proofs {
    /// Sets the hosts that matter; others are forgotten. Returns the hosts to ask for now, which count
    /// as asked until [`Proofs::answer`].
    pub fn ask(&mut self, hosts: &BTreeSet<String>, now: Duration) -> Vec<String> {
        self.hosts.retain(|host, _| hosts.contains(host));
        for host in hosts {
            self.hosts.entry(host.clone()).or_default();
        }
        let due = self.hosts.iter_mut().filter(|(_, known)| !known.is_asked && known.due <= now);
        due.map(|(host, known)| {
            known.is_asked = true;
            host.clone()
        })
        .collect()
    }

    /// Records an answer: the namespaces that a host's records name, or nothing if no server answered.
    pub fn answer(&mut self, host: &str, namespaces: Option<BTreeSet<String>>, now: Duration) {
        let Some(known) = self.hosts.get_mut(host) else { return };
        known.is_asked = false;
        if let Some(namespaces) = namespaces {
            known.namespaces = namespaces;
        }
        if known.namespaces.is_empty() {
            known.due = now + MISSING.saturating_mul(1 << known.misses.min(16)).min(MISSING_MAX);
            known.misses = known.misses.saturating_add(1);
        } else {
            (known.due, known.misses) = (now + KNOWN, 0);
        }
    }

    /// Returns the time at which the next host is due.
    #[must_use]
    pub fn next(&self) -> Option<Duration> {
        let waiting = self.hosts.values().filter(|known| !known.is_asked);
        waiting.map(|known| known.due).min()
    }

    /// Returns the namespaces of each host.
    #[must_use]
    pub fn known(&self) -> BTreeMap<String, BTreeSet<String>> {
        let proven = self.hosts.iter().filter(|(_, known)| !known.namespaces.is_empty());
        proven.map(|(host, known)| (host.clone(), known.namespaces.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{KNOWN, MISSING, MISSING_MAX, Proofs};
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn hosts(list: &[&str]) -> BTreeSet<String> {
        list.iter().map(|host| (*host).to_owned()).collect()
    }

    const START: Duration = Duration::from_secs(100);

    #[test]
    fn a_record_is_asked_for_once_and_again_after_its_time() {
        let mut proofs = Proofs::default();
        assert_eq!(proofs.ask(&hosts(&["a.example"]), START), ["a.example"]);
        assert!(proofs.ask(&hosts(&["a.example"]), START).is_empty());
        proofs.answer("a.example", Some(hosts(&["team"])), START);
        assert_eq!(proofs.known()["a.example"], hosts(&["team"]));
        assert_eq!(proofs.next(), Some(START + KNOWN));
        assert_eq!(proofs.ask(&hosts(&["a.example"]), START + KNOWN), ["a.example"]);
        proofs.answer("a.example", None, START + KNOWN);
        assert!(proofs.known().contains_key("a.example"), "no answer takes nothing away");
        proofs.answer("a.example", Some(BTreeSet::new()), START + KNOWN);
        assert!(proofs.known().is_empty());
    }

    #[test]
    fn a_missing_record_is_looked_for_less_and_less_often() {
        let mut proofs = Proofs::default();
        proofs.ask(&hosts(&["a.example"]), START);
        proofs.answer("a.example", Some(BTreeSet::new()), START);
        assert_eq!(proofs.next(), Some(START + MISSING));
        for _ in 0..20 {
            proofs.answer("a.example", Some(BTreeSet::new()), START);
        }
        assert_eq!(proofs.next(), Some(START + MISSING_MAX));
        proofs.ask(&BTreeSet::new(), START);
        proofs.answer("a.example", Some(hosts(&["late"])), START);
        assert_eq!((proofs.next(), proofs.known().len()), (None, 0));
    }
}
