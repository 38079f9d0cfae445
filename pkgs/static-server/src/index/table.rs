//! Path → number: open addressing with linear probing, built once and never changed.
//!
//! The hash has no key. The keys come from the owner of the site, so a client that requests odd
//! paths can at worst probe the longest run of this one table.

/// A table of numbers. The paths themselves are stored elsewhere.
#[derive(Debug, Default)]
pub struct Table {
    /// Low half: the number plus 1, or 0 for a free place. High half: the upper bits of the hash.
    places: Vec<u64>,
    /// The length of the longest path in bytes; a longer path cannot be in the table.
    longest: usize,
}

impl Table {
    /// Creates an empty table that this many paths fill at most half.
    #[must_use]
    pub fn with_room(count: usize) -> Self {
        Self { places: vec![0; Self::places_for(count)], longest: 0 }
    }

    /// True if a table for this many paths is smaller.
    #[must_use]
    pub fn is_large_for(&self, count: usize) -> bool {
        self.places.len() > Self::places_for(count)
    }

    fn places_for(count: usize) -> usize {
        (count * 2).next_power_of_two().max(2)
    }

    /// Adds a number under a path. If a path is added twice, the first number stays.
    pub fn insert(&mut self, number: u32, path: &[u8]) {
        self.longest = self.longest.max(path.len());
        let hash = hash(path);
        let mask = self.places.len() - 1;
        let mut place = low(hash) & mask;
        while self.places[place] != 0 {
            place = (place + 1) & mask;
        }
        self.places[place] = (hash & HIGH) | u64::from(number.wrapping_add(1));
    }

    /// Finds a path's number; `path_of` returns the path of a number.
    pub fn find<'a>(&self, path: &[u8], path_of: impl Fn(u32) -> &'a [u8]) -> Option<u32> {
        if path.len() > self.longest || self.places.is_empty() {
            return None;
        }
        let hash = hash(path);
        let mask = self.places.len() - 1;
        let mut place = low(hash) & mask;
        loop {
            let found = self.places[place];
            if found == 0 {
                return None;
            }
            #[expect(clippy::cast_possible_truncation, reason = "the low half is the number")]
            let number = (found as u32).wrapping_sub(1);
            if found & HIGH == hash & HIGH && path_of(number) == path {
                return Some(number);
            }
            place = (place + 1) & mask;
        }
    }
}

const HIGH: u64 = 0xffff_ffff_0000_0000;

#[expect(clippy::cast_possible_truncation, reason = "only the low bits are wanted")]
const fn low(hash: u64) -> usize {
    hash as usize
}

/// Hashes eight bytes at a time: multiply and fold.
fn hash(path: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let fold = |state: u64, word: u64| {
        let product = u128::from(state ^ word) * u128::from(FACTOR);
        #[expect(clippy::cast_possible_truncation, reason = "both halves are folded into one")]
        let folded = product as u64 ^ (product >> 64) as u64;
        folded.wrapping_add(FACTOR)
    };
    let (words, rest) = path.as_chunks::<8>();
    let state =
        words.iter().fold(path.len() as u64, |state, word| fold(state, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    fold(fold(state, u64::from_le_bytes(last)), 0)
}

#[cfg(test)]
mod tests {
    use super::Table;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn exactly_the_inserted_paths_are_found(
            paths in proptest::collection::hash_set("/[a-c]{0,12}", 0..60),
            others in proptest::collection::vec("/[a-d]{0,14}", 0..60),
        ) {
            let paths: Vec<String> = paths.into_iter().collect();
            let mut table = Table::with_room(paths.len());
            for (number, path) in (0..).zip(&paths) {
                table.insert(number, path.as_bytes());
            }
            let find = |path: &str| {
                table.find(path.as_bytes(), |number| paths[number as usize].as_bytes())
            };
            for (number, path) in (0..).zip(&paths) {
                prop_assert_eq!(find(path), Some(number));
            }
            for other in others.iter().filter(|other| !paths.contains(other)) {
                prop_assert_eq!(find(other), None);
            }
        }
    }

    #[test]
    fn an_empty_table_has_nothing() {
        assert_eq!(Table::default().find(b"/", |_| b"/"), None);
        assert_eq!(Table::with_room(0).find(b"/", |_| b"/"), None);
    }
}
