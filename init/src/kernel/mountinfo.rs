//! The kernel's list of mounts (`proc_pid_mountinfo(5)`).

/// The calling process' list.
pub const SELF: &str = "/proc/self/mountinfo";

/// All mount points, in the order of their mounting. Lines that make no sense are skipped.
#[must_use]
pub fn points(text: &str) -> Vec<Vec<u8>> {
    text.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).collect()
}

/// A mount: where it is, and the kind of its file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Mount point.
    pub point: Vec<u8>,
    /// As in `mount -t`.
    pub kind: String,
}

/// All mounts, in the order of their mounting. Lines that make no sense are skipped.
#[must_use]
pub fn mounts(text: &str) -> Vec<Mount> {
    let lines = text.lines().filter_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let point = unescape(mount.split(' ').nth(4)?);
        Some(Mount { point, kind: system.split(' ').next()?.into() })
    });
    lines.collect()
}

/// True when `path` is `folder` or below it.
#[must_use]
pub fn is_below(path: &[u8], folder: &[u8]) -> bool {
    let rest = path.strip_prefix(folder);
    rest.is_some_and(|rest| folder == b"/" || rest.is_empty() || rest[0] == b'/')
}

/// Blank, tab, newline and backslash come as three octal digits.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let octal = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{is_below, mounts, points, unescape};

    #[test]
    fn mount_points_are_the_fifth_field() {
        let text = "22 1 0:20 / / ro - erofs x ro\n27 26 0:25 / /a\\040b rw - tmpfs x rw\nshort\n";
        assert_eq!(points(text), [b"/".to_vec(), b"/a b".to_vec()]);
        let kinds: Vec<_> = mounts(text).into_iter().map(|mount| mount.kind).collect();
        assert_eq!(kinds, ["erofs", "tmpfs"]);
    }

    #[test]
    fn what_is_no_escape_stays_as_it_is() {
        assert_eq!(unescape("a\\134b\\9\\04"), b"a\\b\\9\\04");
    }

    #[test]
    fn below_means_whole_path_components() {
        assert!(
            is_below(b"/var/a", b"/var") && is_below(b"/var", b"/var") && is_below(b"/a", b"/")
        );
        assert!(!is_below(b"/various", b"/var") && !is_below(b"/", b"/var"));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in ".{0,200}", point in "[a-z/]{1,20}") {
            let _ = (points(&text), mounts(&text));
            let line = format!("1 1 0:1 / {point} rw - x x rw");
            prop_assert_eq!(points(&line), vec![point.into_bytes()]);
        }
    }
}
