//! Fetching and publishing from a git server, and the attacks of servers.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod common;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::{Mode, Repository, Server, guard};
use gix_hash::Kind;
use pages::git::limits::{Failure, Limit, Limits};
use pages::git::login::Login;
use pages::git::remote::{Branch, Fetched, Fetcher};
use pages::git::snapshot::Snapshot;
use pages::guard::policy::Refusal;
use pages::publish::walk::{Bounds, walk};
use ureq::tls::TlsConfig;

const INTERNAL: [&str; 1] = ["127.0.0.1"];

fn server() -> Server {
    let mut repository = Repository::new(Kind::Sha1);
    repository.push("main", &[("index.html", "<h1>hello</h1>"), ("css/a.css", "a{}")]);
    Server::start(repository)
}

fn fetcher(names: &[(&str, &[&str])], limits: Limits) -> Fetcher {
    Fetcher { guard: guard(names), limits, tls: TlsConfig::default(), known_hosts: None }
}

fn limits() -> Limits {
    Limits { time: Duration::from_secs(20), ..Limits::default() }
}

fn branch(url: &str) -> Branch {
    Branch { url: url.parse().unwrap(), name: "main".to_owned(), login: None }
}

fn fetch_with(
    fetcher: &Fetcher,
    branch: &Branch,
    scratch: &Path,
) -> Result<Box<Snapshot>, Failure> {
    match fetcher.fetch(branch, None, scratch)? {
        Fetched::Commit(snapshot) => Ok(snapshot),
        Fetched::Unchanged => panic!("no commit is known"),
    }
}

/// Fetches the branch `main`, and returns the failure.
fn failure(server: &Server, limits: Limits) -> Failure {
    let folder = tempfile::tempdir().unwrap();
    let fetcher = fetcher(&[("git.example", &INTERNAL)], limits);
    let failed = fetch_with(&fetcher, &branch(&server.url("git.example")), folder.path());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "scratch is empty");
    failed.unwrap_err()
}

fn paths(snapshot: &Snapshot) -> Vec<String> {
    let files = walk(snapshot, snapshot.root(), "", &Bounds::default()).unwrap().files;
    files.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect()
}

#[test]
fn a_commit_is_fetched_and_an_unchanged_one_is_not() {
    for hash in [Kind::Sha1, Kind::Sha256] {
        let mut repository = Repository::new(hash);
        let big = "0123456789abcdef".repeat(20_000);
        let files = [("index.html", "hello"), ("a/b/c.txt", &big), ("link", "->a/b/c.txt")];
        let commit = repository.push("main", &files);
        let server = Server::start(repository);
        let folder = tempfile::tempdir().unwrap();
        let fetcher = fetcher(&[("git.example", &INTERNAL)], limits());
        let branch = branch(&server.url("git.example"));
        let snapshot = fetch_with(&fetcher, &branch, folder.path()).unwrap();
        assert_eq!((snapshot.commit(), snapshot.time()), (commit.clone(), 1_700_000_000));
        assert_eq!(paths(&snapshot), ["/a/b/c.txt", "/index.html", "/link"]);
        let again = fetcher.fetch(&branch, Some(&commit), folder.path()).unwrap();
        assert!(matches!(again, Fetched::Unchanged));
        // A force-push: the new commit has no relation to the old one.
        let forced = server.repository.lock().unwrap().push("main", &[("b.html", "b")]);
        let Fetched::Commit(snapshot) =
            fetcher.fetch(&branch, Some(&commit), folder.path()).unwrap()
        else {
            panic!("the commit is new");
        };
        assert_eq!((snapshot.commit(), paths(&snapshot)), (forced, vec!["/b.html".to_owned()]));
        drop(snapshot);
    }
}

#[test]
fn an_empty_repository_and_a_deleted_branch_are_told_apart() {
    let server = Server::start(Repository::new(Kind::Sha1));
    assert_eq!(failure(&server, limits()), Failure::Empty);
    server.repository.lock().unwrap().push("main", &[("a", "a")]);
    server.repository.lock().unwrap().delete("main");
    assert_eq!(failure(&server, limits()), Failure::NoBranch("main".to_owned()));
}

#[test]
fn a_hung_or_stalled_server_ends_at_the_deadline() {
    let limits = Limits { time: Duration::from_millis(1500), ..limits() };
    for mode in [Mode::Hang, Mode::Stall] {
        let server = server();
        server.set(mode);
        let start = Instant::now();
        assert_eq!(failure(&server, limits), Failure::TimedOut(limits.time));
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn bombs_end_at_their_limits() {
    let server = server();
    server.set(Mode::Objects(1_000_000));
    let limit = Failure::Limit(Limit::Objects(limits().objects));
    assert_eq!(failure(&server, limits()), limit);
    server.set(Mode::Endless);
    let bytes = 4 << 20;
    let failed = failure(&server, Limits { bytes, ..limits() });
    assert!(matches!(failed, Failure::Limit(Limit::Bytes(_)) | Failure::Protocol(_)), "{failed:?}");
    server.set(Mode::Serve);
    let big = "0123456789abcdef".repeat(1 << 16);
    server.repository.lock().unwrap().push("main", &[("a", &big)]);
    let failed = failure(&server, Limits { file_bytes: 1 << 19, ..limits() });
    assert!(matches!(failed, Failure::Protocol(_)), "{failed:?}");
}

#[test]
fn statuses_and_pages_are_named() {
    let server = server();
    for (mode, expected) in [
        (Mode::Status(401), Failure::Denied),
        (Mode::Status(403), Failure::Denied),
        (Mode::Status(404), Failure::NotFound),
        (Mode::Status(500), Failure::Protocol("HTTP status 500".to_owned())),
    ] {
        server.set(mode);
        assert_eq!(failure(&server, limits()), expected);
    }
    server.set(Mode::Page);
    assert!(matches!(failure(&server, limits()), Failure::Protocol(_)));
}

#[test]
fn a_redirect_is_followed_only_where_its_host_is_allowed() {
    let names: [(&str, &[&str]); 3] = [
        ("git.example", &INTERNAL),
        ("new.example", &INTERNAL),
        ("inside.example", &["169.254.169.254"]),
    ];
    let (old, new) = (server(), server());
    let folder = tempfile::tempdir().unwrap();
    let to = |base: &str| {
        old.set(Mode::Redirect(base.to_owned()));
        fetch_with(&fetcher(&names, limits()), &branch(&old.url("git.example")), folder.path())
    };
    assert_eq!(paths(&to(&new.url("new.example")).unwrap()), ["/css/a.css", "/index.html"]);
    let evil = to(&new.url("evil.test")).unwrap_err();
    assert_eq!(evil, Failure::Refused(Refusal::Host("evil.test".to_owned())));
    let inside = to("http://inside.example/x").unwrap_err();
    assert!(matches!(inside, Failure::Refused(Refusal::Address { .. })), "{inside:?}");
    assert_eq!(to("ftp://new.example/x").unwrap_err(), Failure::Redirect);
    assert_eq!(to(&old.url("git.example")).unwrap_err(), Failure::Redirect, "a loop ends");
    assert_eq!(new.connections.load(Ordering::Relaxed), 1, "only the allowed redirect connects");
}

#[test]
fn every_answer_of_the_name_server_is_checked_and_the_checked_address_is_used() {
    let server = server();
    let folder = tempfile::tempdir().unwrap();
    let url = branch(&server.url("git.example"));
    let fetch = |answers: &[&str]| {
        let fetcher = fetcher(&[("git.example", answers)], limits());
        fetch_with(&fetcher, &url, folder.path()).map(drop)
    };
    // The name server changes its answer after the first lookup.
    let refused = fetch(&["10.0.0.1", "127.0.0.1"]).unwrap_err();
    assert!(matches!(refused, Failure::Refused(Refusal::Address { .. })), "{refused:?}");
    assert_eq!(server.connections.load(Ordering::Relaxed), 0);
    // Only the first lookup may lead to this server. A second one for the same fetch ends it.
    match fetch(&["127.0.0.1", "10.0.0.1"]) {
        Ok(()) | Err(Failure::Refused(Refusal::Address { .. })) => {}
        Err(other) => panic!("{other:?}"),
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
}

#[test]
fn a_login_is_never_sent_without_encryption() {
    let server = server();
    let folder = tempfile::tempdir().unwrap();
    let login = Login::Password { user: "git".to_owned(), password: "secret".to_owned() };
    let branch = Branch { login: Some(login), ..branch(&server.url("git.example")) };
    let fetcher = fetcher(&[("git.example", &INTERNAL)], limits());
    let failed = fetch_with(&fetcher, &branch, folder.path()).unwrap_err();
    assert!(matches!(failed, Failure::Credentials(_)));
    assert!(server.authorizations.lock().unwrap().is_empty());
    assert!(!format!("{branch:?}").contains("secret"));
}
