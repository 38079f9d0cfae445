use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::MutexGuard;

use tempfile::TempDir;

use super::*;
use crate::lock::Archive;

/// The retries of tests: no waiting, otherwise as in a build.
const AT_ONCE: Retry = Retry { wait: Duration::ZERO, ..RETRY };

/// Returns the bytes that a server on 127.0.0.1 sends for the n-th request of a path, counted from
/// 0.
type Answer = dyn Fn(&str, usize) -> Vec<u8> + Send + Sync;

/// A web server in this process that counts requests and stops with it.
struct Server {
    address: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answer: Box<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let requests = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &answer, &requests);
            }
        });
        Self { address, seen }
    }

    fn seen(&self) -> MutexGuard<'_, Vec<String>> {
        self.seen.lock().unwrap()
    }
}

fn serve(mut stream: TcpStream, answer: &Answer, seen: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let request = lines.next().unwrap().unwrap();
    while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
    let path = request.split(' ').nth(1).unwrap().to_owned();
    let earlier = {
        let mut seen = seen.lock().unwrap();
        seen.push(path.clone());
        seen.iter().filter(|other| **other == path).count() - 1
    };
    let _ = stream.write_all(&answer(&path, earlier));
}

fn status(status: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").into_bytes()
}

fn ok(body: &str) -> Vec<u8> {
    cut(body, body.len())
}

/// Returns an answer that is shorter than its Content-Length.
fn cut(body: &str, length: usize) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}

fn deb(text: &str) -> Locked {
    Locked {
        name: format!("{text}.deb"),
        origin: Origin::Pool {
            archive: Archive::Debian,
            path: format!("pool/main/x/{text}.deb"),
            snapshot: "20261121T000000Z".parse().unwrap(),
            renew: "cargo xtask update x".to_owned(),
        },
        size: text.len() as u64,
        sha256: Digest::of_bytes(text.as_bytes()),
    }
}

struct Setting {
    _dir: TempDir,
    cache: Cache,
    mirrors: Mirrors,
}

fn setting(mirror: &Server, snapshots: Option<&Server>) -> Setting {
    let dir = TempDir::new().unwrap();
    let cache = Cache::open_at(&dir.path().join("cache"), &Progress::hidden()).unwrap();
    let snapshot = snapshots.map(|server| server.address.clone());
    let mirrors = Mirrors { debian: Some(mirror.address.clone()), security: None, snapshot };
    Setting { _dir: dir, cache, mirrors }
}

impl Setting {
    fn fetch(&self, files: &[Locked]) -> Result<()> {
        let missing = missing(files, &self.cache)?;
        download(
            missing,
            &self.mirrors,
            &self.cache,
            &Progress::hidden(),
            Client::direct(),
            AT_ONCE,
        )
    }

    fn error(&self, file: &Locked) -> String {
        let error = format!("{:#}", self.fetch(std::slice::from_ref(file)).unwrap_err());
        assert!(self.cache.download(file.sha256).unwrap().is_none());
        assert_eq!(
            std::fs::read_dir(self.cache.root().join("tmp")).unwrap().count(),
            0,
            "half a download stayed"
        );
        error
    }
}

/// Answers every path with the name between its last slash and `.deb`.
fn named() -> Box<Answer> {
    Box::new(|path, _| ok(path.rsplit('/').next().unwrap().trim_end_matches(".deb")))
}

#[test]
fn files_are_downloaded_once_and_then_found() {
    let server = Server::start(named());
    let setting = setting(&server, None);
    let files: Vec<Locked> = (0..20).map(|number| deb(&format!("package{number}"))).collect();
    let twice = [&files[..], &files[..]].concat();
    setting.fetch(&twice).unwrap();
    assert_eq!(server.seen().len(), 20);
    let paths = all(&twice, &setting.cache, &Progress::hidden()).unwrap();
    assert_eq!(std::fs::read_to_string(&paths[27]).unwrap(), "package7");
    assert_eq!(server.seen().len(), 20, "a warm cache needs no network");
}

#[test]
fn a_wrong_hash_is_refused_with_both_digests() {
    let server = Server::start(Box::new(|_, _| ok("evil")));
    let file = deb("good");
    let error = setting(&server, None).error(&file);
    let found = Digest::of_bytes(b"evil");
    assert!(error.contains(&format!("its sha256 is {found}, expected {}", file.sha256)), "{error}");
    assert_eq!(server.seen().len(), 1, "a wrong file is not asked for again");
}

#[test]
fn a_wrong_size_is_refused() {
    for answer in [
        ok("a page that says: log in first"),
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ntoo long".to_vec(),
    ] {
        let server = Server::start(Box::new(move |_, _| answer.clone()));
        let error = setting(&server, None).error(&deb("good"));
        assert!(error.contains("bytes or more, expected 4"), "{error}");
    }
}

#[test]
fn half_a_download_is_never_used() {
    let server = Server::start(Box::new(|_, _| cut("go", 4)));
    let error = setting(&server, None).error(&deb("good"));
    assert!(error.contains("was cut off after 2"), "{error}");
    assert_eq!(server.seen().len(), 4);
    let server =
        Server::start(Box::new(|_, _| b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ngo".to_vec()));
    let error = setting(&server, None).error(&deb("good"));
    assert!(error.contains("was cut off after 2 of 4 bytes"), "{error}");
}

#[test]
fn a_temporary_fault_is_retried() {
    let answer = |_: &str, earlier: usize| match earlier {
        0 => status("503 Service Unavailable"),
        1 => cut("go", 4),
        2 => Vec::new(),
        _ => ok("good"),
    };
    let server = Server::start(Box::new(answer));
    setting(&server, None).fetch(&[deb("good")]).unwrap();
    assert_eq!(server.seen().len(), 4);
}

#[test]
fn a_version_that_left_the_mirror_comes_from_the_snapshots() {
    let mirror = Server::start(Box::new(|_, _| status("404 Not Found")));
    let snapshots = Server::start(named());
    setting(&mirror, Some(&snapshots)).fetch(&[deb("old")]).unwrap();
    assert_eq!(*mirror.seen(), ["/pool/main/x/old.deb"]);
    assert_eq!(*snapshots.seen(), ["/debian/20261121T000000Z/pool/main/x/old.deb"]);
}

#[test]
fn a_version_that_left_all_mirrors_names_the_next_step() {
    let mirror = Server::start(Box::new(|_, _| status("404 Not Found")));
    let snapshots = Server::start(Box::new(|_, _| status("404 Not Found")));
    let error = setting(&mirror, Some(&snapshots)).error(&deb("old"));
    assert!(
        error.contains(
            "old.deb, which build.lock pins, has left the mirror; run `cargo xtask update x`"
        ),
        "{error}"
    );
    assert!(error.contains(&mirror.address) && error.contains(&snapshots.address), "{error}");
}

#[test]
fn without_a_network_there_is_one_message() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut setting = setting(&Server::start(named()), None);
    setting.mirrors.debian = Some(format!("http://{closed}"));
    let files: Vec<Locked> = (0..20).map(|number| deb(&format!("package{number}"))).collect();
    let error = format!("{:#}", setting.fetch(&files).unwrap_err());
    assert!(error.starts_with("cannot download 20 files (170 B): "), "{error}");
    assert!(
        error.contains("is not in the cache and cannot be downloaded; connect to the network"),
        "{error}"
    );
    assert_eq!(error.matches("http://").count(), 1, "{error}");
}

#[test]
fn the_first_failure_cancels_the_others() {
    let server = Server::start(Box::new(|path, _| {
        if path.contains("bad") { status("403 Forbidden") } else { status("503 No") }
    }));
    let mut files = vec![deb("bad, and the largest of all")];
    files.extend((0..200).map(|number| deb(&format!("p{number}"))));
    setting(&server, None).fetch(&files).unwrap_err();
    assert!(server.seen().len() < 200, "{}", server.seen().len());
}

#[test]
fn a_flipped_byte_in_the_cache_is_downloaded_again() {
    let server = Server::start(named());
    let setting = setting(&server, None);
    setting.fetch(&[deb("good")]).unwrap();
    let path = setting.cache.download(deb("good").sha256).unwrap().unwrap();
    std::fs::write(&path, "gold").unwrap();
    setting.fetch(&[deb("good")]).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "good");
    assert_eq!(server.seen().len(), 2);
}

#[test]
fn a_pin_that_left_the_mirror_is_named_and_a_failing_mirror_is_an_error() {
    let mirror = Server::start(Box::new(|path, _| match path {
        "/pool/main/x/old.deb" => status("404 Not Found"),
        "/pool/main/x/broken.deb" => status("503 Service Unavailable"),
        _ => status("200 OK"),
    }));
    let setting = setting(&mirror, None);
    let ask = |names: &[&str]| {
        let files: Vec<Locked> = names.iter().map(|name| deb(name)).collect();
        let task = Progress::hidden().task("ask", None);
        let files: Vec<&Locked> = files.iter().collect();
        let gone = gone_from(&files, &setting.mirrors, &Client::direct(), &task)?;
        anyhow::Ok(gone.into_iter().map(|file| file.name.clone()).collect::<Vec<_>>())
    };
    assert_eq!(ask(&["new", "old"]).unwrap(), ["old.deb"]);
    assert!(ask(&["new", "broken"]).unwrap_err().to_string().contains("503"));
}
