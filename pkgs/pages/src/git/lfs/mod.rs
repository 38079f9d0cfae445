//! The objects of Git LFS in place of their pointers.
//!
//! They come from the repository's own LFS server, by HTTPS, with the login of the site. A download may
//! be on another server; like every connection it passes [`crate::guard`], and it gets no login. The
//! content of an object must have its size and SHA-256. A server without LFS, an unknown object and
//! one that is too large leave the pointer, so that the site shows a note; any other failure ends the
//! fetch.

mod batch;
mod pointer;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gix_hash::ObjectId;
use tempfile::TempDir;
use ureq::http::{Method, Uri};

use crate::digest::Digest;
use crate::git::http::Client;
use crate::git::limits::Failure;
use crate::git::login::Login;
use crate::git::meter::Meter;
use crate::git::remote::{Branch, Fetcher};
use crate::git::snapshot::Snapshot;
use crate::guard::url::Scheme;
use crate::publish::tree::{Blob, Entry, EntryKind, Objects};
use batch::{Download, MEDIA_TYPE, OBJECTS_MAX};
pub use pointer::{POINTER_BYTES_MAX, Pointer};

/// The most bytes of a batch answer. An object takes up to about 2 KiB with a signed URL.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// A commit whose pointers are read as the objects that they name.
#[derive(Debug)]
pub struct WithLfs<'a> {
    /// The commit.
    pub snapshot: &'a Snapshot,
    /// The way to the servers.
    pub fetcher: &'a Fetcher,
    /// The repository and its login.
    pub branch: &'a Branch,
    /// The folder for the objects.
    pub scratch: &'a Path,
    /// The objects, which are fetched when the first pointer is read.
    pub stored: OnceCell<Result<Stored, Failure>>,
}

/// The fetched objects. Their folder goes with them.
#[derive(Debug)]
pub struct Stored {
    folder: TempDir,
    objects: BTreeSet<Digest>,
}

impl Objects for WithLfs<'_> {
    type Id = ObjectId;
    type Error = Failure;

    fn folder(&self, id: &ObjectId) -> Result<Vec<Entry<ObjectId>>, Failure> {
        self.snapshot.folder(id)
    }

    fn file(&self, id: &ObjectId) -> Result<Blob, Failure> {
        let blob = self.snapshot.file(id)?;
        let Blob::Bytes(bytes) = &blob else { return Ok(blob) };
        let Some(pointer) = Pointer::parse(bytes) else { return Ok(blob) };
        if pointer.bytes > self.fetcher.limits.file_bytes {
            return Ok(Blob::TooLarge);
        }
        let stored = self.stored.get_or_init(|| self.fetch()).as_ref().map_err(Clone::clone)?;
        if !stored.objects.contains(&pointer.digest) {
            return Ok(blob);
        }
        let path = stored.folder.path().join(pointer.digest.hex());
        fs::read(path).map(Blob::Bytes).map_err(|error| Failure::Disk(error.to_string()))
    }
}

impl WithLfs<'_> {
    /// Fetches the objects of all pointers of the commit.
    fn fetch(&self) -> Result<Stored, Failure> {
        let folder = tempfile::Builder::new().prefix("lfs-").tempdir_in(self.scratch);
        let folder = folder.map_err(|error| Failure::Disk(error.to_string()))?;
        let mut stored = Stored { folder, objects: BTreeSet::new() };
        if self.branch.url.scheme == Scheme::Ssh {
            return Ok(stored);
        }
        let mut pointers = BTreeSet::new();
        self.find(&self.snapshot.root(), &mut pointers)?;
        let pointers: Vec<Pointer> = pointers.into_iter().collect();
        let meter = Meter::start(self.fetcher.limits);
        let client =
            Client::new(self.fetcher.guard.clone(), meter.clone(), self.fetcher.tls.clone());
        for some in pointers.chunks(OBJECTS_MAX) {
            let Some(places) = self.places(&client, &meter, some)? else { break };
            for pointer in some {
                let Some(place) = places.get(&pointer.digest) else { continue };
                let path = stored.folder.path().join(pointer.digest.hex());
                if self.download(&client, &meter, place, *pointer, &path)? {
                    stored.objects.insert(pointer.digest);
                }
            }
        }
        Ok(stored)
    }

    /// Collects the pointers below a folder of the commit.
    fn find(&self, folder: &ObjectId, found: &mut BTreeSet<Pointer>) -> Result<(), Failure> {
        for entry in self.snapshot.folder(folder)? {
            match entry.kind {
                EntryKind::Folder => self.find(&entry.id, found)?,
                EntryKind::File => {
                    let Blob::Bytes(bytes) = self.snapshot.file(&entry.id)? else { continue };
                    let pointer = Pointer::parse(&bytes);
                    found.extend(pointer.filter(|it| it.bytes <= self.fetcher.limits.file_bytes));
                }
                EntryKind::Link | EntryKind::Submodule => {}
            }
        }
        Ok(())
    }

    /// Asks the repository's LFS server for the places of some objects; nothing if it has no LFS for
    /// this site.
    fn places(
        &self,
        client: &Client,
        meter: &Arc<Meter>,
        pointers: &[Pointer],
    ) -> Result<Option<BTreeMap<Digest, Download>>, Failure> {
        let repository = self.branch.url.to_string();
        let repository = repository.trim_end_matches('/');
        // Git LFS adds `.git` where the URL lacks it ("Server Discovery" in its documentation).
        let repository = repository.strip_suffix(".git").unwrap_or(repository);
        let url = format!("{repository}.git/info/lfs/objects/batch");
        let mut fields =
            vec![format!("Accept: {MEDIA_TYPE}"), format!("Content-Type: {MEDIA_TYPE}")];
        if let Some(Login::Password { user, password }) = &self.branch.login {
            let proof = STANDARD.encode(format!("{user}:{password}"));
            fields.push(format!("Authorization: Basic {proof}"));
        }
        let body = batch::request(pointers);
        let answer = client.exchange(Method::POST, &url, &fields, body.as_bytes());
        let answer = match answer {
            Err(Failure::NotFound | Failure::Denied) => return Ok(None),
            other => other?,
        };
        let mut bytes = Vec::new();
        let read = answer.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(|error| meter.cause_or(Failure::Connection(error.to_string())))?;
        let places = batch::answer(&bytes);
        let places = places.map_err(|error| Failure::Protocol(format!("Git LFS: {error}")))?;
        Ok(Some(places))
    }

    /// Downloads an object; false if the server does not have it.
    fn download(
        &self,
        client: &Client,
        meter: &Arc<Meter>,
        place: &Download,
        pointer: Pointer,
        path: &Path,
    ) -> Result<bool, Failure> {
        if !is_safe(&place.url, self.branch.url.scheme) {
            return Err(Failure::Redirect);
        }
        let body = match client.exchange(Method::GET, &place.url, &place.fields, &[]) {
            Err(Failure::NotFound | Failure::Denied) => return Ok(false),
            other => other?,
        };
        let disk = |error: std::io::Error| Failure::Disk(error.to_string());
        let mut bytes = Vec::new();
        let read = body.take(pointer.bytes + 1).read_to_end(&mut bytes);
        read.map_err(|error| meter.cause_or(Failure::Connection(error.to_string())))?;
        if bytes.len() as u64 != pointer.bytes || Digest::of(&bytes) != pointer.digest {
            return Err(Failure::Protocol(format!(
                "Git LFS: the object {} has another size or content",
                pointer.digest
            )));
        }
        let mut file = File::create_new(path).map_err(disk)?;
        std::io::Write::write_all(&mut file, &bytes).map_err(disk)?;
        Ok(true)
    }
}

/// True if a download is at least as safe as the repository, and its URL has no login. The guard decides
/// about its host.
fn is_safe(url: &str, repository: Scheme) -> bool {
    let Ok(url) = url.parse::<Uri>() else { return false };
    let is_encrypted = url.scheme_str() == Some("https");
    let is_plain = url.scheme_str() == Some("http") && repository == Scheme::Http;
    let is_without_login = url.authority().is_some_and(|it| !it.as_str().contains('@'));
    (is_encrypted || is_plain) && is_without_login
}

#[cfg(test)]
mod tests {
    use super::{Scheme, is_safe};

    #[test]
    fn a_download_never_loses_encryption_and_has_no_login() {
        assert!(is_safe("https://lfs.example/a?signature=b", Scheme::Https));
        assert!(is_safe("http://lfs.example/a", Scheme::Http));
        for bad in ["http://lfs.example/a", "https://u:p@lfs.example/a", "file:///a", "/a", ""] {
            assert!(!is_safe(bad, Scheme::Https), "{bad}");
        }
    }
}
