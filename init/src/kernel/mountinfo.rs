//! The kernel's list of mounts (`proc_pid_mountinfo(5)`).

/// The list of the calling process.
pub const SELF: &str = "/proc/self/mountinfo";

/// Returns all mount points in mount order. Malformed lines are skipped.
#[must_use]
pub fn points(text: &str) -> Vec<Vec<u8>> {
    text.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).collect()
}

/// A mount point and the type of its file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The mount point.
    pub point: Vec<u8>,
    /// The type, as in `mount -t`.
    pub kind: String,
}

/// Returns all mounts in mount order. Malformed lines are skipped.
#[must_use]
pub fn mounts(text: &str) -> Vec<Mount> {
    let lines = text.lines().filter_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        let point = unescape(mount.split(' ').nth(4)?);
        Some(Mount { point, kind: system.split(' ').next()?.into() })
    });
    lines.collect()
}

/// True if `path` is `folder` or is below it.
#[must_use]
pub fn is_below(path: &[u8], folder: &[u8]) -> bool {
    let rest = path.strip_prefix(folder);
    rest.is_some_and(|rest| folder == b"/" || rest.is_empty() || rest[0] == b'/')
}

/// Decodes blanks, tabs, newlines and backslashes, which the kernel writes as three octal digits.
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

    use super::{Mount, is_below, mounts, points, unescape};

    #[test]
    fn mount_points_are_the_fifth_field() {
        let text = "22 1 0:20 / / ro - erofs x ro\n27 26 0:25 / /a\\040b rw - tmpfs x rw\nshort\n";
        assert_eq!(points(text), [b"/".to_vec(), b"/a b".to_vec()]);
        let kinds: Vec<_> = mounts(text).into_iter().map(|mount| mount.kind).collect();
        assert_eq!(kinds, ["erofs", "tmpfs"]);
    }

    #[test]
    fn text_that_is_not_an_escape_is_kept() {
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
        fn a_mount_point_is_found_whatever_its_bytes(
            name in prop::collection::vec(any::<u8>(), 0..20),
            before in "([0-9 ]{0,20}\n){0,3}",
        ) {
            let escape = |byte: &u8| match byte {
                b' ' | b'\t' | b'\n' | b'\\' | 128.. => format!("\\{byte:03o}"),
                byte => char::from(*byte).to_string(),
            };
            let path = [b"/", &name[..]].concat();
            let point: String = path.iter().map(escape).collect();
                    let line = format!("{before}1 1 0:1 / {point} rw - ext4 x rw\n");
                    let expected = Mount { point: path, kind: "ext4".into() };
                    prop_assert_eq!(mounts(&line).pop(), Some(expected));
                }
    }
}
