//! HTTP and HTTPS.

use pages::git::limits::Failure;
use pages::git::login::Login;
use pages::git::remote::{Branch, Fetched};

use crate::server::{Server, branch, fetch, files, limits};

#[test]
fn pushes_force_pushes_and_a_deleted_branch_are_seen() {
    let server = Server::find();
    let work = server.create("pushes", &[]);
    let url = format!("{}/pushes.git", server.https);
    let fetcher = server.fetcher(limits());
    assert_eq!(fetch(&fetcher, &branch(&url)).unwrap_err(), Failure::Empty);
    let push_url = format!("{}/pushes.git", server.http);
    let one = work.commit(&[("index.html", "one"), ("a/b.txt", "b")]);
    work.push(&push_url, "main");
    let snapshot = fetch(&fetcher, &branch(&url)).unwrap();
    assert_eq!(snapshot.commit(), one);
    let expected = [("/a/b.txt", "b"), ("/index.html", "one")];
    assert_eq!(files(&snapshot), expected.map(|(path, text)| (path.to_owned(), text.to_owned())));
    let folder = tempfile::tempdir().unwrap();
    let same = fetcher.fetch(&branch(&url), Some(&one), folder.path()).unwrap();
    assert!(matches!(same, Fetched::Unchanged));
    work.run(&["checkout", "--quiet", "--orphan", "other"]);
    let forced = work.commit(&[("index.html", "forced")]);
    work.run(&["push", "--quiet", "--force", &push_url, "HEAD:refs/heads/main"]);
    assert_eq!(fetch(&fetcher, &branch(&url)).unwrap().commit(), forced);
    work.push(&push_url, "other");
    work.run(&["push", "--quiet", &push_url, "--delete", "main"]);
    assert_eq!(fetch(&fetcher, &branch(&url)).unwrap_err(), Failure::NoBranch("main".to_owned()));
    let missing = fetch(&fetcher, &branch(&format!("{}/missing.git", server.https)));
    assert_eq!(missing.unwrap_err(), Failure::NotFound);
}

#[test]
fn a_repository_with_sha_256_is_fetched() {
    let server = Server::find();
    let work = server.create("sha256", &["--object-format=sha256"]);
    let commit = work.commit(&[("index.html", "by SHA-256")]);
    assert_eq!(commit.len(), 64);
    work.push(&format!("{}/sha256.git", server.http), "main");
    let url = format!("{}/sha256.git", server.https);
    let snapshot = fetch(&server.fetcher(limits()), &branch(&url)).unwrap();
    assert_eq!((snapshot.commit(), files(&snapshot).len()), (commit, 1));
}

#[test]
fn a_wrong_certificate_is_refused_and_named() {
    let server = Server::find();
    let fetcher = server.fetcher(limits());
    let check = |base: &str, expected: &str| {
        let failure = fetch(&fetcher, &branch(&format!("{base}/first.git"))).unwrap_err();
        assert_eq!(failure.reason(), "ConnectionFailed");
        let text = failure.to_string();
        assert!(text.contains(expected), "{text}");
    };
    check(&server.wrong.unknown, "UnknownIssuer");
    check(&server.wrong.other, "not valid for name");
    check(&server.wrong.expired, "expired");
    let snapshot = fetch(&fetcher, &branch(&format!("{}/first.git", server.https))).unwrap();
    assert_eq!(files(&snapshot), [("/index.html".to_owned(), "pushed by the builder".to_owned())]);
}

#[test]
fn a_private_repository_needs_the_right_password() {
    let server = Server::find();
    let work = server.create("private/site", &[]);
    let commit = work.commit(&[("index.html", "secret page")]);
    work.push(work.bare.to_str().unwrap(), "main");
    let fetcher = server.fetcher(limits());
    let url = format!("{}/private/site.git", server.https);
    let with = |url: &str, password: &str| {
        let login = Login::Password { user: server.user.clone(), password: password.to_owned() };
        fetch(&fetcher, &Branch { login: Some(login), ..branch(url) })
    };
    assert_eq!(fetch(&fetcher, &branch(&url)).unwrap_err(), Failure::Denied);
    assert_eq!(with(&url, "another password").unwrap_err(), Failure::Denied);
    assert_eq!(with(&url, &server.password).unwrap().commit(), commit);
    let plain = with(&format!("{}/private/site.git", server.http), &server.password);
    assert!(matches!(plain.unwrap_err(), Failure::Credentials(_)));
}
