//! Sites below path prefixes of their hosts.

use std::collections::HashMap;
use std::sync::Arc;

use super::Site;
use crate::index::Index;
use crate::status::Status;

/// A site below a path prefix of a host.
#[derive(Debug, Clone)]
struct Mount {
    /// The decoded prefix: empty, or with a slash at the start and none at the end.
    prefix: Box<[u8]>,
    index: Arc<Index>,
    /// True for a site that search engines must not list.
    is_unlisted: bool,
}

/// Sites by host name and path prefix.
///
/// A clone shares all sites and all hosts' lists with the original, so replacing one site among
/// many costs two reference counts for each host.
#[derive(Debug, Clone, Default)]
pub struct Mounts {
    /// The mounts of each normalised host name, the longest prefix first.
    hosts: HashMap<Arc<[u8]>, Arc<[Mount]>>,
}

impl Mounts {
    /// Adds a site, or replaces the one that is there.
    ///
    /// `host` is in lower case, without a port and a final dot. `prefix` is empty, or begins with a
    /// slash and does not end with one.
    pub fn insert(&mut self, host: &str, prefix: &str, index: Arc<Index>) {
        let prefix = prefix.as_bytes().into();
        self.mount(host, Mount { prefix, index, is_unlisted: false });
    }

    /// Adds a site that search engines must not list, or replaces the one that is there; see
    /// [`Site::is_unlisted`].
    pub fn insert_unlisted(&mut self, host: &str, prefix: &str, index: Arc<Index>) {
        let prefix = prefix.as_bytes().into();
        self.mount(host, Mount { prefix, index, is_unlisted: true });
    }

    fn mount(&mut self, host: &str, mount: Mount) {
        let mut mounts = self.without(host, &mount.prefix);
        let at = mounts.partition_point(|other| other.prefix.len() >= mount.prefix.len());
        mounts.insert(at, mount);
        self.hosts.insert(host.as_bytes().into(), mounts.into());
    }

    /// Removes a site.
    pub fn remove(&mut self, host: &str, prefix: &str) {
        let mounts = self.without(host, prefix.as_bytes());
        if mounts.is_empty() {
            self.hosts.remove(host.as_bytes());
        } else {
            self.hosts.insert(host.as_bytes().into(), mounts.into());
        }
    }

    fn without(&self, host: &str, prefix: &[u8]) -> Vec<Mount> {
        let mounts = self.hosts.get(host.as_bytes()).into_iter().flat_map(|mounts| mounts.iter());
        mounts.filter(|mount| *mount.prefix != *prefix).cloned().collect()
    }

    /// Returns the site with the longest prefix that the path lies below. Prefixes end at segment
    /// boundaries: `/docs` has `/docs` and `/docs/a`, but not `/docsearch`.
    pub(super) fn site(&self, host: &[u8], path: &[u8]) -> Result<Site<'_>, Status> {
        let mounts = self.hosts.get(host).ok_or(Status::MisdirectedRequest)?;
        let is_below = |mount: &&Mount| {
            path.strip_prefix(&*mount.prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        let mount = mounts.iter().find(is_below).ok_or(Status::NotFound)?;
        Ok(Site { index: &mount.index, prefix: &mount.prefix, is_unlisted: mount.is_unlisted })
    }

    /// Returns all sites.
    pub(super) fn sites(&self) -> impl Iterator<Item = &Arc<Index>> {
        self.hosts.values().flat_map(|mounts| mounts.iter().map(|mount| &mount.index))
    }
}

#[cfg(test)]
mod tests {
    use super::Mounts;
    use crate::index::policy::Policy;
    use crate::index::testing::from_files;
    use crate::status::Status;
    use std::sync::Arc;

    /// Adds sites whose only page is their own name.
    fn mounts(sites: &[(&str, &str)]) -> Mounts {
        let mut mounts = Mounts::default();
        for (host, prefix) in sites {
            let index =
                from_files(&[("/index.html", &format!("{host}{prefix}"))], &Policy::default());
            mounts.insert(host, prefix, Arc::new(index));
        }
        mounts
    }

    #[track_caller]
    fn check(mounts: &Mounts, host: &str, path: &str, expected: Result<&str, Status>) {
        let site = mounts.site(host.as_bytes(), path.as_bytes());
        let prefix = site.map(|site| std::str::from_utf8(site.prefix).unwrap());
        assert_eq!(prefix, expected, "{host}{path}");
    }

    #[test]
    fn the_longest_prefix_at_a_segment_boundary_wins() {
        let mounts = mounts(&[("a", ""), ("a", "/docs"), ("a", "/docs/v2"), ("b", "/x")]);
        check(&mounts, "a", "/", Ok(""));
        check(&mounts, "a", "/docs", Ok("/docs"));
        check(&mounts, "a", "/docs/", Ok("/docs"));
        check(&mounts, "a", "/docs/v", Ok("/docs"));
        check(&mounts, "a", "/docs/v2", Ok("/docs/v2"));
        check(&mounts, "a", "/docs/v2/x", Ok("/docs/v2"));
        check(&mounts, "a", "/docs/v20", Ok("/docs"));
        check(&mounts, "a", "/docsearch", Ok(""));
        check(&mounts, "b", "/x/y", Ok("/x"));
        check(&mounts, "b", "/", Err(Status::NotFound));
        check(&mounts, "c", "/", Err(Status::MisdirectedRequest));
    }

    #[test]
    fn sites_are_replaced_and_removed_one_by_one() {
        let mut changed = mounts(&[("a", ""), ("a", "/x"), ("b", "")]);
        let old = changed.clone();
        changed.remove("a", "/x");
        changed.remove("b", "");
        check(&changed, "a", "/x/y", Ok(""));
        check(&changed, "b", "/", Err(Status::MisdirectedRequest));
        check(&old, "a", "/x/y", Ok("/x"));
        let count = old.sites().count();
        changed.insert("a", "", Arc::default());
        assert_eq!((count, changed.sites().count()), (3, 1));
    }
}
