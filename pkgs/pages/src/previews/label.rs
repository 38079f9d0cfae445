//! Reference → label and host.
//!
//! The host is `LABEL--NAME.NAMESPACE.DOMAIN`. A label never has two hyphens in a row, so the first two
//! end it, and two sites of one namespace share no host. A reference that is not its own label gets a
//! short hash, and a branch that looks like the label of another reference does, too; so two references
//! of a site share no label.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::reference::Reference;
use crate::key::SiteKey;

/// The most bytes of a label of DNS (RFC 1035, section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// The characters between label and name.
const BETWEEN: &str = "--";

/// The most bytes of a site's name in the host. A longer one is cut, and gets a hash.
const NAME_BYTES_MAX: usize = 40;

/// The digits of a hash.
const DIGITS: usize = 9;

/// The bytes of `-x` and a hash.
const SUFFIX: usize = DIGITS + 2;

/// Returns the label of a reference, for the key of the preview.
#[must_use]
pub fn label(site: &SiteKey, reference: &Reference) -> String {
    let most = LABEL_BYTES_MAX - BETWEEN.len() - name(site).0.len();
    match reference {
        Reference::Pull(number) => format!("pr-{number}"),
        Reference::Merge(number) => format!("mr-{number}"),
        Reference::Branch(branch) => of_branch(branch, most),
    }
}

/// Returns the key of a preview.
#[must_use]
pub fn key(site: &SiteKey, reference: &Reference) -> Option<SiteKey> {
    site.with_preview(&label(site, reference)).ok()
}

/// Returns the host of a preview below the domain for pages.
#[must_use]
pub fn host(site: &SiteKey, reference: &Reference, domain: &str) -> String {
    let (first, rest) = name(site);
    let label = label(site, reference);
    format!("{label}{BETWEEN}{first}{rest}.{}.{domain}", site.namespace())
}

/// Returns the first label of a site's name, shortened, and the rest with its dot.
fn name(site: &SiteKey) -> (String, &str) {
    let (first, rest) = site.name().split_at(site.name().find('.').unwrap_or(site.name().len()));
    if first.len() <= NAME_BYTES_MAX {
        (first.to_owned(), rest)
    } else {
        (cut(first, first, NAME_BYTES_MAX), rest)
    }
}

fn of_branch(branch: &str, most: usize) -> String {
    let mut clean = String::new();
    for char in branch.chars().flat_map(char::to_lowercase) {
        if char.is_ascii_alphanumeric() {
            clean.push(char);
        } else if !clean.is_empty() && !clean.ends_with('-') {
            clean.push('-');
        }
    }
    let clean = clean.trim_end_matches('-');
    // A label with hyphens in the third and fourth place is reserved (RFC 5890, section 2.3.1).
    let is_own = clean == branch && clean.len() <= most && clean.len() != 2 && !is_taken(clean);
    if is_own { clean.to_owned() } else { cut(clean, branch, most) }
}

/// True for a text that is the label of a pull request, or has the form of a label with a hash.
fn is_taken(text: &str) -> bool {
    let is_number = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit());
    let is_hash = |rest: &str| {
        rest.len() == DIGITS
            && rest.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let is_pull =
        ["pr-", "mr-"].into_iter().any(|start| text.strip_prefix(start).is_some_and(is_number));
    is_pull || text.rsplit_once("-x").is_some_and(|(_, rest)| is_hash(rest))
}

/// Returns the start of a text with the hash of a whole one.
fn cut(text: &str, whole: &str, most: usize) -> String {
    let start = text[..text.len().min(most - SUFFIX)].trim_end_matches('-');
    let start = if start.is_empty() { "b" } else { start };
    let mut label = format!("{start}-x");
    for byte in Sha256::digest(whole) {
        // Writing to a String cannot fail.
        let _ = write!(label, "{byte:02x}");
    }
    label.truncate(start.len() + SUFFIX);
    label
}

#[cfg(test)]
mod tests {
    use super::{host, key, label};
    use crate::key::SiteKey;
    use crate::previews::reference::Reference;
    use proptest::prelude::*;

    fn site(name: &str) -> SiteKey {
        SiteKey::new("team", name).unwrap()
    }

    fn branch(name: &str) -> Reference {
        Reference::Branch(name.to_owned())
    }

    #[test]
    fn a_plain_branch_is_its_own_label_and_others_get_a_hash() {
        let site = site("blog");
        assert_eq!(label(&site, &branch("next")), "next");
        assert_eq!(label(&site, &Reference::Pull(12)), "pr-12");
        assert_eq!(label(&site, &Reference::Merge(12)), "mr-12");
        for (name, start) in [
            ("feature/a", "feature-a-x"),
            ("Next", "next-x"),
            ("a--b", "a-b-x"),
            ("v2", "v2-x"),
            ("xn", "xn-x"),
            ("pr-12", "pr-12-x"),
            ("mr-1", "mr-1-x"),
            ("next-x012345678", "next-x012345678-x"),
            ("-a-", "a-x"),
            ("ブログ", "b-x"),
        ] {
            let found = label(&site, &branch(name));
            assert!(found.starts_with(start) && found.len() == start.len() + 9, "{name}: {found}");
        }
        assert_eq!(host(&site, &branch("next"), "pages.test"), "next--blog.team.pages.test");
        let dotted = SiteKey::new("team", "a.b").unwrap();
        assert_eq!(host(&dotted, &branch("next"), "pages.test"), "next--a.b.team.pages.test");
    }

    #[test]
    fn long_names_of_sites_and_branches_fit() {
        for length in [1, 39, 40, 41, 63] {
            let site = site(&"s".repeat(length));
            for reference in [branch(&"b".repeat(200)), Reference::Pull(999_999_999_999_999_999)] {
                let host = host(&site, &reference, "pages.test");
                assert!(is_host(&host), "{host}");
            }
        }
    }

    /// True for labels of RFC 1123, section 2.1, within the limits of DNS.
    fn is_host(text: &str) -> bool {
        let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_label = |label: &str| {
            let bytes = label.as_bytes();
            (1..=63).contains(&bytes.len())
                && is_inner(bytes[0])
                && is_inner(bytes[bytes.len() - 1])
                && bytes.iter().all(|byte| is_inner(*byte) || *byte == b'-')
        };
        text.len() <= 253 && text.split('.').all(is_label)
    }

    const NAMES: &str = "[a-z]([a-z0-9-]{0,50}[a-z0-9])?";
    const BRANCHES: &str =
        "[a-b/-]{1,5}|(pr|mr)-[0-9]{1,12}|[A-Za-z0-9/_.-]{1,70}|\\PC{1,12}|[a-c]{1,3}-x[0-9a-f]{9}";

    proptest! {
        #[test]
        fn a_host_is_valid_and_its_label_is_safe(name in NAMES, branch_name in BRANCHES) {
            let (site, reference) = (site(&name), branch(&branch_name));
            let host = host(&site, &reference, "pages.test");
            prop_assert!(is_host(&host), "{}", host);
            prop_assert!(!label(&site, &reference).contains("--"));
            prop_assert_ne!(&host.as_bytes()[2..4], b"--", "a reserved label");
            prop_assert!(key(&site, &reference).is_some());
        }

        #[test]
        fn two_references_share_no_label(a in BRANCHES, b in BRANCHES, number in 1_u64..1_000_000_000_000) {
            let site = site("blog");
            if a != b {
                prop_assert_ne!(label(&site, &branch(&a)), label(&site, &branch(&b)));
            }
            let own = label(&site, &branch(&label(&site, &branch(&a))));
            prop_assert!(own == a || own != label(&site, &branch(&a)), "{}", own);
            for pull in [Reference::Pull(number), Reference::Merge(number)] {
                prop_assert_ne!(label(&site, &branch(&a)), label(&site, &pull));
            }
        }

        #[test]
        fn two_sites_of_a_namespace_share_no_host(
            a in "[ab]{1,2}(--?[ab]{1,2}){0,2}", b in "[ab]{1,2}(--?[ab]{1,2}){0,2}",
            one in "[ab]{1,2}(--?[ab]{1,2}){0,2}", other in "[ab]{1,2}(--?[ab]{1,2}){0,2}",
        ) {
            let host = |name: &str, of: &str| host(&site(name), &branch(of), "pages.test");
            if a != b {
                prop_assert_ne!(host(&a, &one), host(&b, &other));
            }
        }
    }
}
