//! SHA-256 digests of downloaded files, and of everything that goes into a step.
//!
//! A step's digest is its place in the cache, so [`Recipe`] hashes its fields with labels and
//! lengths: two different sets of inputs never become the same bytes.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::process;

/// The number of bytes read at a time, so large that the cost of the system call does not matter.
const BLOCK: usize = 256 * 1024;

/// A SHA-256 digest, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// A text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoDigest(String);

/// Hashes bytes as they come.
#[derive(Debug, Default)]
pub struct Hasher(Sha256);

/// Everything that a step's result depends on, field by field, in the order of the calls.
#[derive(Debug)]
pub struct Recipe(Hasher);

impl Digest {
    /// Returns the digest of these bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Returns the digest of a file's contents; fails on ctrl-C.
    pub fn of_file(path: &Path) -> Result<Self> {
        let mut file =
            File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let mut hasher = Hasher::default();
        let mut block = vec![0; BLOCK];
        loop {
            let read =
                file.read(&mut block).with_context(|| format!("cannot read {}", path.display()))?;
            if read == 0 {
                return Ok(hasher.finish());
            }
            hasher.update(&block[..read]);
            process::check_interrupt()?;
        }
    }
}

impl Hasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of everything that was added.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Recipe {
    /// Starts with the revision of the step's own code, for example `"deb 1"`.
    pub fn new(kind: &str) -> Self {
        Self(Hasher::default()).field("kind", kind)
    }

    /// Adds a labelled value.
    #[must_use]
    pub fn field(mut self, label: &str, value: impl AsRef<[u8]>) -> Self {
        for part in [label.as_bytes(), value.as_ref()] {
            self.0.update(&(part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
        self
    }

    /// Adds another digest: a file's, or that of a step whose result is an input.
    #[must_use]
    pub fn digest(self, label: &str, digest: Digest) -> Self {
        self.field(label, digest.0)
    }

    /// Returns the digest of all fields.
    pub fn finish(self) -> Digest {
        self.0.finish()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for NoDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not a sha256 digest: it must have 64 hexadecimal digits in lower case",
            self.0
        )
    }
}

impl std::error::Error for NoDigest {}

impl FromStr for Digest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let bad = || NoDigest(text.to_owned());
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        if text.len() != 64 {
            return Err(bad());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = value(pair[0]).ok_or_else(bad)? << 4 | value(pair[1]).ok_or_else(bad)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_empty_text_has_its_well_known_digest() {
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of_bytes(b"").to_string(), empty);
        assert_eq!(empty.parse(), Ok(Digest::of_bytes(b"")));
    }

    #[test]
    fn only_64_lower_case_digits_are_a_digest() {
        let good = "0".repeat(64);
        let bad = [
            "",
            "00",
            &"0".repeat(63),
            &"0".repeat(65),
            &"G".repeat(64),
            &"A".repeat(64),
            &"é".repeat(32),
        ];
        assert!(good.parse::<Digest>().is_ok());
        assert!(bad.iter().all(|text| text.parse::<Digest>().is_err()));
    }

    #[test]
    fn a_value_that_moves_to_the_next_field_changes_the_recipe() {
        let digest = |a: &str, b: &str| Recipe::new("x").field("a", a).field("b", b).finish();
        assert_ne!(digest("12", "3"), digest("1", "23"));
        assert_ne!(digest("", "1"), digest("1", ""));
        assert_eq!(digest("1", "2"), digest("1", "2"));
    }

    proptest! {
        #[test]
        fn a_digest_parses_back(bytes: [u8; 32]) {
            prop_assert_eq!(Digest(bytes).to_string().parse(), Ok(Digest(bytes)));
        }

        #[test]
        fn a_text_parses_exactly_if_it_is_64_lower_case_digits(text in "[0-9a-fA-G]{63,65}|.*") {
            let is_digest = text.len() == 64
                && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            let parsed = text.parse::<Digest>();
            prop_assert_eq!(parsed.is_ok(), is_digest);
            if let Ok(digest) = parsed {
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }
}
