//! Objects of Git LFS from a server.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;

use std::cell::OnceCell;
use std::path::Path;

use common::{Repository, Server, guard};
use gix_hash::Kind;
use pages::digest::Digest;
use pages::git::lfs::WithLfs;
use pages::git::limits::{Failure, Limits};
use pages::git::remote::{Branch, Fetched, Fetcher};
use pages::publish::tree::{Blob, Objects};
use ureq::tls::TlsConfig;

/// The content of an object.
const CONTENT: &[u8] = b"a large picture";

fn pointer(content: &[u8]) -> String {
    let digest = Digest::of(content);
    let bytes = content.len();
    format!("version https://git-lfs.github.com/spec/v1\noid {digest}\nsize {bytes}\n")
}

/// A server whose repository has a page, and pointers of one object that exists and one that does not.
fn server() -> Server {
    let mut repository = Repository::new(Kind::Sha1);
    let (known, unknown) = (pointer(CONTENT), pointer(b"unknown"));
    let files = [("a.png", known.as_str()), ("b.png", unknown.as_str()), ("index.html", "page")];
    repository.push("main", &files);
    let server = Server::start(repository);
    let base = format!("http://lfs.example:{}", server.address.port());
    *server.downloads.lock().unwrap() = base;
    server.objects.lock().unwrap().insert(Digest::of(CONTENT).hex(), CONTENT.to_vec());
    server
}

/// Fetches the branch, and returns the three files as they are published.
fn files(server: &Server, limits: Limits) -> Result<Vec<Blob>, Failure> {
    let folder = tempfile::tempdir().unwrap();
    let result = files_in(server, limits, folder.path());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "scratch is empty");
    result
}

fn files_in(server: &Server, limits: Limits, scratch: &Path) -> Result<Vec<Blob>, Failure> {
    let hosts: [(&str, &[&str]); 3] = [
        ("git.example", &["127.0.0.1"]),
        ("lfs.example", &["127.0.0.1"]),
        ("internal.example", &["10.1.2.3"]),
    ];
    let (guard, tls) = (guard(&hosts), TlsConfig::default());
    let fetcher = &Fetcher { guard, limits, tls, known_hosts: None };
    let url = server.url("git.example").parse().unwrap();
    let branch = &Branch { url, name: "main".to_owned(), login: None };
    let Fetched::Commit(snapshot) = fetcher.fetch(branch, None, scratch)? else {
        panic!("no commit is known")
    };
    let snapshot = &*snapshot;
    let objects = WithLfs { snapshot, fetcher, branch, scratch, stored: OnceCell::new() };
    let entries = objects.folder(&snapshot.root())?;
    entries.iter().map(|entry| objects.file(&entry.id)).collect()
}

fn text(content: &[u8]) -> Blob {
    Blob::Bytes(content.to_vec())
}

#[test]
fn a_pointer_is_read_as_its_object_and_one_without_stays() {
    let expected = [text(CONTENT), text(pointer(b"unknown").as_bytes()), text(b"page")];
    assert_eq!(files(&server(), Limits::default()).unwrap(), expected);
}

#[test]
fn a_server_without_lfs_leaves_all_pointers() {
    let server = server();
    server.objects.lock().unwrap().clear();
    let found = files(&server, Limits::default()).unwrap();
    assert_eq!(found[0], text(pointer(CONTENT).as_bytes()));
}

#[test]
fn an_object_with_another_content_is_refused() {
    for other in [&b"a larger picture"[..], b"A large picture", b"a"] {
        let server = server();
        server.objects.lock().unwrap().insert(Digest::of(CONTENT).hex(), other.to_vec());
        let failure = files(&server, Limits::default()).unwrap_err();
        assert!(matches!(failure, Failure::Protocol(_)), "{failure:?}");
    }
}

#[test]
fn a_download_goes_only_where_the_rules_allow() {
    let server = server();
    let port = server.address.port();
    for (base, reason) in [
        (format!("http://other.test:{port}"), "HostNotAllowed"),
        (format!("http://internal.example:{port}"), "HostNotAllowed"),
        (format!("http://127.0.0.1:{port}"), "HostNotAllowed"),
        (format!("http://{}@lfs.example:{port}", "user:secret"), "BadRedirect"),
        ("file:///etc/passwd".to_owned(), "BadRedirect"),
    ] {
        server.downloads.lock().unwrap().clone_from(&base);
        let failure = files(&server, Limits::default()).unwrap_err();
        assert_eq!(failure.reason(), reason, "{base}: {failure:?}");
    }
}

#[test]
fn a_large_object_is_left_out_without_a_download() {
    let limits = Limits { file_bytes: 200, ..Limits::default() };
    let large = vec![0; 201];
    let server = server();
    server.repository.lock().unwrap().push("main", &[("a.png", &pointer(&large))]);
    assert_eq!(files(&server, limits).unwrap(), [Blob::TooLarge]);
}
