//! The rules about names: which namespace may use which host.
//!
//! A right is *exclusive* if an administrator or the owner of the domain gave it to the namespace: the
//! name lies below the namespace's own part of the domain for pages, it is in the administrators'
//! list, or a DNS record names the namespace. A right is *shared* if every namespace has it; then the
//! first one gets the name.

use std::collections::{BTreeMap, BTreeSet};

use super::claim::Claim;
use super::name::{self, is_below, is_within};
use super::verdict::{Reason, Refusal};
use crate::api::Group;

/// The label before a domain at which its owner names the namespaces that may use it.
pub const RECORD: &str = "_kiln-pages";

/// The key and the equals sign before a namespace in a TXT record.
const RECORD_KEY: &str = "namespace=";

/// The rules of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// The cluster's domain for pages, normalised.
    pub domain: String,
    /// True if a domain that no list and no record gives away is for the first namespace that wants it.
    pub is_open: bool,
    /// Hosts that no site may have, such as the one of the webhooks, normalised.
    pub reserved: BTreeSet<String>,
    /// The administrators' list.
    pub list: List,
    /// The namespaces that a domain's TXT records name, by host.
    pub proofs: BTreeMap<String, BTreeSet<String>>,
}

/// The administrators' list: the domains of each namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct List(BTreeMap<String, Vec<Pattern>>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    Below(String),
}

/// The strength of a right to a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Given to this namespace.
    Exclusive,
    /// Every namespace has it.
    Shared,
}

impl List {
    /// Reads the data of a `ConfigMap`: namespaces with domains that are separated by white space or
    /// commas. `*.example.com` means every name below `example.com`. Returns the entries that are not
    /// domains, too.
    pub fn read<'a>(data: impl Iterator<Item = (&'a str, &'a str)>) -> (Self, Vec<String>) {
        let (mut list, mut wrong) = (BTreeMap::<String, Vec<Pattern>>::new(), Vec::new());
        for (namespace, text) in data {
            let words = text.split(|char: char| char.is_whitespace() || char == ',');
            for word in words.filter(|word| !word.is_empty()) {
                match Pattern::read(word) {
                    Some(pattern) => list.entry(namespace.to_owned()).or_default().push(pattern),
                    None => wrong.push(format!("{namespace}: {word}")),
                }
            }
        }
        (Self(list), wrong)
    }

    fn gives(&self, namespace: &str, host: &str) -> bool {
        self.0.get(namespace).is_some_and(|list| list.iter().any(|pattern| pattern.matches(host)))
    }

    fn gives_to_any(&self, host: &str) -> bool {
        self.0.values().flatten().any(|pattern| pattern.matches(host))
    }
}

impl Pattern {
    fn read(word: &str) -> Option<Self> {
        match word.strip_prefix("*.") {
            Some(domain) => name::host(domain).ok().map(Self::Below),
            None => name::host(word).ok().map(Self::Exact),
        }
    }

    fn matches(&self, host: &str) -> bool {
        match self {
            Self::Exact(name) => host == name,
            Self::Below(domain) => is_below(host, domain),
        }
    }
}

/// Reads the namespaces in the texts of a domain's TXT records.
pub fn namespaces<'a>(texts: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let values = texts.filter_map(|text| text.trim().strip_prefix(RECORD_KEY));
    values.map(|value| value.trim().to_owned()).collect()
}

impl Rules {
    /// Returns the host that a site wants: its own domain, or its name below the domain for pages.
    pub fn wanted(&self, claim: &Claim) -> Result<String, Refusal> {
        if let Some(domain) = claim.domain.as_deref().filter(|domain| !domain.is_empty()) {
            return name::host(domain).map_err(Refusal::invalid);
        }
        if claim.prefix.as_deref().is_some_and(|prefix| !matches!(prefix, "" | "/")) {
            return Err(Refusal::new(Reason::Invalid, "pathPrefix needs a domain; set domain"));
        }
        let (namespace, site, domain) = (claim.key().namespace(), claim.key().name(), &self.domain);
        let host = match claim.id.group {
            Group::Kiln => format!("{site}.{namespace}.{domain}"),
            // With a dot, the name would lie in the part of the domain that is another namespace's.
            Group::Kup6s if site.contains('.') => {
                let message = "a name with a dot needs a domain of its own; set domain";
                return Err(Refusal::new(Reason::Invalid, message));
            }
            Group::Kup6s => format!("{site}.{domain}"),
        };
        name::host(&host).map_err(Refusal::invalid)
    }

    /// Decides if a site's namespace may use a host.
    pub fn right(&self, claim: &Claim, host: &str) -> Result<Right, Refusal> {
        let namespace = claim.key().namespace();
        if self.reserved.contains(host) {
            let message = format!("{host} is reserved by the administrators of the cluster");
            return Err(Refusal::new(Reason::DomainNotAllowed, message));
        }
        let is_proven = self.proofs.get(host).is_some_and(|names| names.contains(namespace));
        let own = format!("{namespace}.{}", self.domain);
        if self.list.gives(namespace, host) || is_below(host, &own) {
            return Ok(Right::Exclusive);
        }
        if is_within(host, &self.domain) {
            return self.right_below(claim, host);
        }
        if is_proven {
            return Ok(Right::Exclusive);
        }
        if self.is_open && !self.list.gives_to_any(host) {
            return Ok(Right::Shared);
        }
        Err(Refusal::new(
            Reason::DomainNotAllowed,
            format!(
                "the namespace {namespace} may not use {host}; create the DNS record {RECORD}.{host} TXT \
                 \"{RECORD_KEY}{namespace}\", or ask an administrator to list the domain"
            ),
        ))
    }

    /// Decides about names below the domain for pages that are not the namespace's own.
    fn right_below(&self, claim: &Claim, host: &str) -> Result<Right, Refusal> {
        let (site, domain) = (claim.key().name(), &self.domain);
        let is_default = claim.id.group == Group::Kup6s && host == format!("{site}.{domain}");
        if is_default && !self.list.gives_to_any(host) {
            return Ok(Right::Shared);
        }
        let namespace = claim.key().namespace();
        let message = format!(
            "{host} is not below {namespace}.{domain}; choose such a name, or ask an administrator to list it"
        );
        Err(Refusal::new(Reason::DomainNotAllowed, message))
    }

    /// True if the administrators' list gives a host to other namespaces only.
    #[must_use]
    pub fn is_others(&self, namespace: &str, host: &str) -> bool {
        self.list.gives_to_any(host) && !self.list.gives(namespace, host)
    }

    /// True if only a DNS record can give the host to the site's namespace, so that it is worth asking.
    #[must_use]
    pub fn needs_proof(&self, claim: &Claim, host: &str) -> bool {
        let is_ours = is_within(host, &self.domain) || self.reserved.contains(host);
        !is_ours && !self.list.gives(claim.key().namespace(), host)
    }
}
