//! The host keys of SSH servers: lines of `known_hosts` (its format is part of sshd(8)).
//!
//! Lines with hashed names and with authorities of certificates have no effect. A line that cannot be
//! read has none either, so that one new kind of key takes no server away.

use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, KnownHosts, Marker};
use russh::keys::{Algorithm, HashAlg, PublicKey};

use crate::guard::url::GitUrl;

/// The most bytes of a list that are read.
const BYTES_MAX: usize = 1 << 20;

/// The keys of one host.
#[derive(Debug, Clone, Default)]
pub struct Known {
    keys: Vec<PublicKey>,
    revoked: Vec<PublicKey>,
}

impl Known {
    /// Finds the keys of a URL's host and port in several lists.
    #[must_use]
    pub fn find(lists: &[&str], url: &GitUrl) -> Self {
        let name = if url.port == url.scheme.default_port() {
            url.host.clone()
        } else {
            format!("[{}]:{}", url.host, url.port)
        };
        let mut known = Self::default();
        for list in lists.iter().filter(|list| list.len() <= BYTES_MAX) {
            // The library reads line by line and ends at the first bad one, so each line is a list.
            for entry in list.lines().flat_map(KnownHosts::new).flatten() {
                known.add(&entry, &name);
            }
        }
        known
    }

    fn add(&mut self, entry: &Entry, name: &str) {
        let HostPatterns::Patterns(patterns) = entry.host_patterns() else { return };
        if !matches(patterns, name) {
            return;
        }
        match entry.marker() {
            None => self.keys.push(entry.public_key().clone()),
            Some(Marker::Revoked) => self.revoked.push(entry.public_key().clone()),
            Some(Marker::CertAuthority) => {}
        }
    }

    /// True if no key is known.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// True if the host has this key.
    #[must_use]
    pub fn contains(&self, key: &PublicKey) -> bool {
        let is_in = |list: &[PublicKey]| list.iter().any(|one| one.key_data() == key.key_data());
        is_in(&self.keys) && !is_in(&self.revoked)
    }

    /// Returns the algorithms with which the host can prove one of its keys, the best ones first.
    #[must_use]
    pub fn algorithms(&self) -> Vec<Algorithm> {
        let has = |wanted: &Algorithm| {
            self.keys.iter().any(|key| match (key.algorithm(), wanted) {
                (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
                (algorithm, wanted) => algorithm == *wanted,
            })
        };
        let preferred = russh::Preferred::DEFAULT.key;
        // SHA-1 proves nothing.
        let modern = preferred.iter().filter(|one| !matches!(one, Algorithm::Rsa { hash: None }));
        modern.filter(|one| has(one)).cloned().collect()
    }
}

/// The hash of signatures with an RSA key, if the server does not say which ones it knows.
pub const RSA_HASH: HashAlg = HashAlg::Sha512;

/// True if a list of patterns has a host: one pattern matches, and none with `!` does.
fn matches(patterns: &[String], name: &str) -> bool {
    let is_denied = |pattern: &String| {
        pattern.strip_prefix('!').is_some_and(|pattern| glob(pattern.as_bytes(), name.as_bytes()))
    };
    !patterns.iter().any(is_denied)
        && patterns
            .iter()
            .any(|pattern| glob(pattern.to_ascii_lowercase().as_bytes(), name.as_bytes()))
}

/// Compares a text with a pattern: `*` stands for any bytes, and `?` for one.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // The place of the last star, and the bytes that it stands for.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((place, taken)) = star else { return false };
                star = Some((place, taken + 1));
                (p, t) = (place + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::{Known, glob};
    use proptest::prelude::*;
    use russh::keys::Algorithm;

    const A: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const B: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";

    fn find(lists: &[&str], url: &str) -> Known {
        Known::find(lists, &url.parse().unwrap())
    }

    /// True if the lists have the key [`A`] for a URL.
    fn has(lists: &[&str], url: &str) -> bool {
        find(lists, url).contains(&A.parse().unwrap())
    }

    #[test]
    fn a_host_is_found_by_name_port_and_pattern() {
        let url = "ssh://git@git.example/a";
        for (line, expected) in [
            (format!("git.example {A}"), true),
            (format!("# comment\n\nother.example,git.example {A} a comment"), true),
            (format!("*.example {A}"), true),
            (format!("GIT.example {A}"), true),
            (format!("git.exampl? {A}"), true),
            (format!("git.example {B}"), false),
            (format!("[git.example]:2222 {A}"), false),
            (format!("*.example,!git.example {A}"), false),
            (format!("@cert-authority git.example {A}"), false),
            (format!("git.example {A}\n@revoked * {A}"), false),
            (format!("git.example ssh-new AAAA\ngarbage\ngit.example {A}"), true),
            (String::new(), false),
        ] {
            assert_eq!(has(&[&line], url), expected, "{line}");
        }
        assert!(has(&[&format!("[git.example]:2222 {A}")], "ssh://git.example:2222/a"));
        assert!(has(&["", &format!("git.example {A}")], url), "the second list counts too");
    }

    #[test]
    fn only_algorithms_of_known_keys_are_offered() {
        let known = find(&[&format!("git.example {A}")], "git@git.example:a");
        assert_eq!(known.algorithms(), [Algorithm::Ed25519]);
        assert!(find(&[A], "git@git.example:a").is_empty());
    }

    proptest! {
        #[test]
        fn no_text_causes_a_panic(text in "\\PC{0,200}") {
            let _ = find(&[&text], "ssh://git.example/a");
        }

        #[test]
        fn a_text_matches_itself_and_a_star(text in "[a-z.]{0,20}", place in 0_usize..20) {
            prop_assert!(glob(text.as_bytes(), text.as_bytes()));
            let place = place.min(text.len());
            let pattern = format!("{}*", &text[..place]);
            prop_assert!(glob(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
