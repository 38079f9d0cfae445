//! A person's name of a revision → the revision.

use anyhow::{Result, anyhow, bail};

use crate::api::{Revision, StaticSiteStatus};

/// The fewest characters of a name, as git shows at least.
const NAME_CHARS_MIN: usize = 4;

/// Returns the revision of this name, or the one before the current one.
///
/// A name is a digest, its digits, or a commit, or the start of one of them.
/// An error lists the revisions that exist.
pub fn resolve<'a>(name: Option<&str>, status: &'a StaticSiteStatus) -> Result<&'a Revision> {
    let all = &status.revisions;
    if all.is_empty() {
        bail!("the site has no revision yet");
    }
    let Some(name) = name.filter(|name| *name != "previous") else {
        let current = status.revision.as_ref().map(|revision| &revision.digest);
        let place = all.iter().position(|one| Some(&one.digest) == current);
        return all.get(place.map_or(0, |place| place + 1)).ok_or_else(|| {
            anyhow!("there is no older revision; the site has\n{}", listed(status))
        });
    };
    if name.chars().count() < NAME_CHARS_MIN {
        bail!("{name:?} is too short; write at least {NAME_CHARS_MIN} characters");
    }
    let is_meant = |one: &&Revision| {
        let digits = one.digest.split_once(':').map_or("", |(_, digits)| digits);
        [&one.digest, digits, &one.commit].iter().any(|text| text.starts_with(name))
    };
    let found: Vec<&Revision> = all.iter().filter(is_meant).collect();
    match found[..] {
        [one] => Ok(one),
        [] => bail!("the site has no revision {name:?}; it has\n{}", listed(status)),
        [..] => bail!(
            "{} revisions begin with {name:?}; write more of the digest:\n{}",
            found.len(),
            listed(status)
        ),
    }
}

/// Returns the revisions as lines: digest, commit, time, and a mark at the one in force.
#[must_use]
pub fn listed(status: &StaticSiteStatus) -> String {
    let current = status.revision.as_ref().map(|revision| revision.digest.as_str());
    let line = |one: &Revision| {
        let mark = if current == Some(one.digest.as_str()) { '*' } else { ' ' };
        let digest: String = one.digest.chars().take(19).collect();
        let commit: String = one.commit.chars().take(19).collect();
        format!("  {mark} {digest:<19}  {commit:<19}  {}", one.time)
    };
    status.revisions.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::resolve;
    use crate::api::{Revision, StaticSiteStatus};

    fn status(current: usize) -> StaticSiteStatus {
        let revision = |digit: char, commit: &str| Revision {
            digest: format!("sha256:{}", digit.to_string().repeat(64)),
            commit: commit.to_owned(),
            time: "2026-01-01T00:00:00Z".to_owned(),
        };
        let revisions =
            vec![revision('a', "c0ffee11"), revision('b', "c0ffee22"), revision('c', "badc0de0")];
        let revision = revisions.get(current).cloned();
        StaticSiteStatus { revision, revisions, ..StaticSiteStatus::default() }
    }

    fn check(name: Option<&str>, current: usize, expected: Result<&str, &str>) {
        let status = status(current);
        match (resolve(name, &status), expected) {
            (Ok(found), Ok(commit)) => assert_eq!(found.commit, commit, "{name:?}"),
            (Err(error), Err(text)) => assert!(error.to_string().contains(text), "{error}"),
            (found, expected) => panic!("{name:?}: {found:?} is not {expected:?}"),
        }
    }

    #[test]
    fn a_revision_has_many_names() {
        check(None, 0, Ok("c0ffee22"));
        check(Some("previous"), 1, Ok("badc0de0"));
        check(None, 2, Err("there is no older revision"));
        check(Some("sha256:cc"), 0, Ok("badc0de0"));
        check(Some("bbbb"), 0, Ok("c0ffee22"));
        check(Some("c0ffee1"), 0, Ok("c0ffee11"));
        check(Some("c0ffee"), 0, Err("2 revisions begin with"));
        check(Some("sha256:"), 0, Err("3 revisions begin with"));
        check(Some("bad"), 0, Err("at least 4 characters"));
    }

    #[test]
    fn an_unknown_revision_lists_those_that_exist() {
        let error = resolve(Some("dddd"), &status(1)).unwrap_err().to_string();
        assert!(error.starts_with("the site has no revision \"dddd\"; it has\n"), "{error}");
        assert!(error.contains("\n  * sha256:bbbbbbbbbbbb  c0ffee22 "), "{error}");
        assert!(error.lines().all(|line| line.len() <= 80), "{error}");
        let empty = StaticSiteStatus::default();
        assert!(resolve(None, &empty).unwrap_err().to_string().contains("no revision yet"));
    }
}
