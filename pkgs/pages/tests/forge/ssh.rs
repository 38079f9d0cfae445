//! SSH.

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use pages::git::limits::{Failure, Limits};
use pages::git::login::Login;
use pages::git::remote::{Branch, Fetched};
use pages::git::snapshot::Snapshot;

use crate::server::{Server, branch, fetch, files, limits};

/// Reads a file of the server.
fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// Fetches with a private key and lines of `known_hosts`.
fn with(server: &Server, url: &str, key: &str, known: &str) -> Result<Box<Snapshot>, Failure> {
    let (user, key, known_hosts) = ("git".to_owned(), key.to_owned(), known.to_owned());
    let login = Some(Login::Key { user, key, known_hosts });
    fetch(&server.fetcher(limits()), &Branch { login, ..branch(url) })
}

impl Server {
    /// Makes a key pair. Returns the private key, and the public one.
    #[expect(clippy::disallowed_methods, reason = "the test's own child, not part of a build")]
    fn key_pair(&self, kind: &str, passphrase: &str) -> (String, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let mut command = Command::new(&self.ssh_keygen);
        command.args(["-q", "-C", "test", "-t", kind, "-N", passphrase, "-f"]).arg(&path);
        assert!(command.status().unwrap().success());
        (read(&path), read(&path.with_extension("pub")))
    }

    /// Lets a public key log in.
    fn authorise(&self, public: &str) {
        let list = self.key.with_file_name("authorized_keys");
        let mut list = std::fs::OpenOptions::new().append(true).open(list).unwrap();
        list.write_all(format!("restrict {public}").as_bytes()).unwrap();
    }
}

#[test]
fn a_push_is_fetched_over_ssh_with_both_versions_of_the_protocol() {
    let server = Server::find();
    let (key, known) = (read(&server.key), read(&server.known_hosts));
    for name in ["over-ssh", "old/over-ssh"] {
        let work = server.create(name, &[]);
        let url = format!("{}/{name}.git", server.ssh);
        assert_eq!(with(&server, &url, &key, &known).unwrap_err(), Failure::Empty, "{name}");
        let large = "0123456789abcdef".repeat(100_000);
        let commit = work.commit(&[("index.html", "by SSH"), ("large.txt", &large)]);
        work.push(work.bare.to_str().unwrap(), "main");
        let snapshot = with(&server, &url, &key, &known).unwrap();
        assert_eq!(snapshot.commit(), commit);
        assert_eq!(files(&snapshot)[0], ("/index.html".to_owned(), "by SSH".to_owned()));
        assert_eq!(files(&snapshot)[1].1, large);
        let (user, known_hosts) = ("git".to_owned(), known.clone());
        let login = Some(Login::Key { user, key: key.clone(), known_hosts });
        let folder = tempfile::tempdir().unwrap();
        let branch = Branch { login, ..branch(&url) };
        let same = server.fetcher(limits()).fetch(&branch, Some(&commit), folder.path()).unwrap();
        assert!(matches!(same, Fetched::Unchanged));
    }
    let missing = with(&server, &format!("{}/missing.git", server.ssh), &key, &known);
    assert_eq!(missing.unwrap_err(), Failure::NotFound);
}

#[test]
fn a_repository_with_sha_256_is_fetched_over_ssh() {
    let server = Server::find();
    let work = server.create("ssh-sha256", &["--object-format=sha256"]);
    let commit = work.commit(&[("index.html", "by SHA-256")]);
    work.push(work.bare.to_str().unwrap(), "main");
    let url = format!("{}/ssh-sha256.git", server.ssh);
    let snapshot = with(&server, &url, &read(&server.key), &read(&server.known_hosts)).unwrap();
    assert_eq!((snapshot.commit(), files(&snapshot).len()), (commit, 1));
}

#[test]
fn only_a_known_host_key_is_trusted() {
    let server = Server::find();
    let (key, known) = (read(&server.key), read(&server.known_hosts));
    let url = format!("{}/first.git", server.ssh);
    let fetch = |known: &str| with(&server, &url, &key, known).map(|_| ());
    for kind in ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"] {
        let line = known.lines().find(|line| line.contains(kind)).unwrap();
        fetch(line).unwrap();
    }
    let host = "127.0.0.1".to_owned();
    assert_eq!(fetch("").unwrap_err(), Failure::UnknownHost(host.clone()));
    let elsewhere = known.replace("127.0.0.1", "127.0.0.2");
    assert_eq!(fetch(&elsewhere).unwrap_err(), Failure::UnknownHost(host.clone()));
    let place = known.split(' ').next().unwrap();
    let wrong = format!("{place} {}", server.key_pair("ed25519", "").1);
    assert_eq!(fetch(&wrong).unwrap_err(), Failure::WrongHostKey(host.clone()));
    let revoked = format!("{known}{}", known.replace("[127", "@revoked [127"));
    assert_eq!(fetch(&revoked).unwrap_err(), Failure::WrongHostKey(host));
}

#[test]
fn keys_of_all_modern_kinds_log_in_and_others_are_refused() {
    let server = Server::find();
    let known = read(&server.known_hosts);
    let url = format!("{}/first.git", server.ssh);
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let (private, public) = server.key_pair(kind, "");
        let refused = with(&server, &url, &private, &known).unwrap_err();
        assert_eq!(refused, Failure::Denied, "{kind}: the server does not know the key");
        server.authorise(&public);
        with(&server, &url, &private, &known).unwrap();
    }
    let (encrypted, public) = server.key_pair("ed25519", "passphrase");
    server.authorise(&public);
    let refused = with(&server, &url, &encrypted, &known).unwrap_err().to_string();
    assert!(refused.contains("has a passphrase"), "{refused}");
    let garbage = with(&server, &url, "a password", &known).unwrap_err();
    assert_eq!(garbage, Failure::Credentials("the private key cannot be read"));
    let none = fetch(&server.fetcher(limits()), &branch(&url)).unwrap_err().to_string();
    assert!(none.contains("ssh-privatekey"), "{none}");
}

#[test]
fn an_ssh_server_that_hangs_ends_at_the_deadline() {
    let server = Server::find();
    // The kernel accepts the connection, and nothing answers.
    let hung = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = hung.local_addr().unwrap().port();
    let known = read(&server.known_hosts);
    let place = known.split(' ').next().unwrap().to_owned();
    let known_hosts = known.replace(&place, &format!("[127.0.0.1]:{port}"));
    let (user, key) = ("git".to_owned(), read(&server.key));
    let login = Some(Login::Key { user, key, known_hosts });
    let limits = Limits { time: Duration::from_millis(1500), ..limits() };
    let url = format!("ssh://git@127.0.0.1:{port}/a.git");
    let start = Instant::now();
    let failed = fetch(&server.fetcher(limits), &Branch { login, ..branch(&url) });
    assert_eq!(failed.unwrap_err(), Failure::TimedOut(limits.time));
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn an_internal_address_is_refused_for_ssh_too() {
    let server = Server::find();
    let known = format!("10.0.0.1 {}", server.key_pair("ed25519", "").1);
    let refused = with(&server, "git@10.0.0.1:a/b", &read(&server.key), &known).unwrap_err();
    assert_eq!(refused.reason(), "HostNotAllowed");
}
