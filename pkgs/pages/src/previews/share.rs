//! The share of a namespace: the most previews and bytes of all of its sites together.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::key::SiteKey;

/// The most previews and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The most previews of a namespace.
    pub previews: usize,
    /// The most bytes of their packs.
    pub bytes: u64,
}

impl Default for Share {
    fn default() -> Self {
        Self { previews: 50, bytes: 2 << 30 }
    }
}

/// A preview of one of a namespace's sites.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The preview.
    pub key: SiteKey,
    /// The time at which its commit was seen first, since 1970.
    pub since: Duration,
    /// The bytes of its pack; 0 if it has none yet.
    pub bytes: u64,
}

/// Returns the previews within the share; the oldest ones are left out.
#[must_use]
pub fn within(share: &Share, mut candidates: Vec<Candidate>) -> BTreeSet<SiteKey> {
    candidates.sort_by(|a, b| (b.since, &a.key).cmp(&(a.since, &b.key)));
    let mut bytes = 0_u64;
    let fit = candidates.into_iter().take(share.previews).take_while(|candidate| {
        bytes = bytes.saturating_add(candidate.bytes);
        bytes <= share.bytes
    });
    fit.map(|candidate| candidate.key).collect()
}

#[cfg(test)]
mod tests {
    use super::{Candidate, Share, within};
    use crate::key::SiteKey;
    use proptest::prelude::*;
    use std::time::Duration;

    fn candidate(name: &str, since: u64, bytes: u64) -> Candidate {
        let key = SiteKey::new("team", "blog").unwrap().with_preview(name).unwrap();
        Candidate { key, since: Duration::from_secs(since), bytes }
    }

    fn check(share: Share, expected: &[&str]) {
        let all = vec![candidate("a", 1, 5), candidate("b", 3, 5), candidate("c", 2, 5)];
        let kept = within(&share, all);
        let kept: Vec<&str> = kept.iter().filter_map(SiteKey::preview).collect();
        assert_eq!(kept, expected);
    }

    #[test]
    fn the_oldest_goes_first() {
        check(Share { previews: 3, bytes: 15 }, &["a", "b", "c"]);
        check(Share { previews: 2, bytes: 15 }, &["b", "c"]);
        check(Share { previews: 3, bytes: 14 }, &["b", "c"]);
        check(Share { previews: 3, bytes: 9 }, &["b"]);
        check(Share { previews: 0, bytes: 9 }, &[]);
    }

    proptest! {
        #[test]
        fn a_share_is_never_exceeded(
            sizes in proptest::collection::vec((0_u64..100, 0_u64..50), 0..30),
            previews in 0_usize..20, bytes in 0_u64..200,
        ) {
            let all = (0..).zip(&sizes).map(|(number, (since, bytes))| {
                candidate(&format!("p{number}"), *since, *bytes)
            });
            let all: Vec<Candidate> = all.collect();
            let kept = within(&Share { previews, bytes }, all.clone());
            let sum: u64 = all.iter().filter(|one| kept.contains(&one.key)).map(|one| one.bytes).sum();
            prop_assert!(kept.len() <= previews && sum <= bytes);
            let oldest = all.iter().filter(|one| kept.contains(&one.key)).map(|one| one.since).min();
            let dropped = all.iter().filter(|one| !kept.contains(&one.key)).map(|one| one.since).max();
            prop_assert!(oldest.is_none() || dropped.is_none() || dropped <= oldest);
        }
    }
}
