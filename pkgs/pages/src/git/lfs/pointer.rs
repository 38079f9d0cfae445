//! A pointer of Git LFS: the small file that a repository has in place of a large one. Pure.
//!
//! Source: Git LFS specification, "The Pointer" (`docs/spec.md` of git-lfs).

use crate::digest::Digest;

/// The first line of a pointer, without the end of the line.
const VERSION: &str = "version https://git-lfs.github.com/spec/v1";

/// The most bytes of a pointer, by the specification.
pub const POINTER_BYTES_MAX: usize = 1024;

/// The object that a pointer names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer {
    /// The SHA-256 of its content.
    pub digest: Digest,
    /// Its size in bytes.
    pub bytes: u64,
}

impl Pointer {
    /// Reads a file; nothing if it is no pointer with a SHA-256.
    #[must_use]
    pub fn parse(file: &[u8]) -> Option<Self> {
        if file.len() > POINTER_BYTES_MAX {
            return None;
        }
        let mut lines = std::str::from_utf8(file).ok()?.lines();
        if lines.next() != Some(VERSION) {
            return None;
        }
        let (mut digest, mut bytes) = (None, None);
        for (key, value) in lines.filter_map(|line| line.split_once(' ')) {
            match key {
                "oid" => digest = value.parse().ok(),
                "size" => bytes = value.parse().ok(),
                _ => {}
            }
        }
        Some(Self { digest: digest?, bytes: bytes? })
    }
}

#[cfg(test)]
mod tests {
    use super::Pointer;
    use crate::digest::Digest;
    use proptest::prelude::*;

    fn text(digest: &str, size: &str) -> String {
        format!("version https://git-lfs.github.com/spec/v1\noid {digest}\nsize {size}\n")
    }

    #[test]
    fn a_pointer_names_digest_and_size() {
        let digest = Digest::of(b"content");
        let pointer = Pointer::parse(text(&digest.to_string(), "7").as_bytes());
        assert_eq!(pointer, Some(Pointer { digest, bytes: 7 }));
        let mut long = text(&digest.to_string(), "7");
        long.push_str(&"x".repeat(1024));
        for other in [
            "version https://git-lfs.github.com/spec/v2\n".to_owned(),
            text("sha256:12", "7"),
            text("md5:00", "7"),
            text(&digest.to_string(), "-1"),
            "oid x".to_owned(),
            String::new(),
            long,
        ] {
            assert_eq!(Pointer::parse(other.as_bytes()), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_file_is_a_pointer_or_none(file in proptest::collection::vec(any::<u8>(), 0..1100)) {
            let _ = Pointer::parse(&file);
        }
    }
}
