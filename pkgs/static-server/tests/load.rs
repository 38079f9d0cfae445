//! Load and damage from outside: memory stays bounded, and other clients do not notice.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]

mod common;

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use common::{DEADLINE, GET, LARGE, LAST, Server, command, folder, page, start};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The most KiB of anonymous memory that a server may have. Content is in sealed memory or in
/// files.
const MEMORY: u64 = 2048;

/// The length of the longest line that a client sends here, in bytes.
const LONG: usize = 400 << 20;

/// Returns the number of connections that the limit of descriptors allows both sides, up to `most`.
/// A smaller number is printed, because the test then proves less.
fn connections(most: u64) -> u64 {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    // The server keeps a quarter for files.
    let count = maximum.map_or(most, |maximum| most.min(maximum / 2));
    if count < most {
        println!("{count} connections instead of {most}: the limit of descriptors is {maximum:?}");
    }
    count
}

#[test]
fn ten_thousand_idle_connections_are_held_in_little_memory() {
    let server = start(&["--workers", "1", "-c", "600", "-k", "600"]);
    let mut held: Vec<TcpStream> = (0..connections(10_000)).map(|_| server.connect()).collect();
    for stream in held.iter_mut().step_by(2) {
        stream.write_all(GET.as_bytes()).unwrap();
        page(stream);
    }
    assert!(server.get("/").ends_with("page"));
    let kib = server.memory("RssAnon:");
    assert!(kib < MEMORY, "{kib} KiB for {} connections", held.len());
    for stream in held.iter_mut().step_by(99) {
        stream.write_all(GET.as_bytes()).unwrap();
        page(stream);
    }
}

#[test]
fn a_header_line_of_400_mib_costs_one_head() {
    let server = start(&["--workers", "1"]);
    assert!(server.get("/").ends_with("page"));
    let before = server.memory("VmHWM:");
    let mut stream = server.connect();
    let answer = stream.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut start = [0; 13];
        (&answer).read_exact(&mut start).unwrap();
        start
    });
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX: ").unwrap();
    let piece = vec![b'x'; 1 << 20];
    let sent = (0..LONG / piece.len()).take_while(|_| stream.write_all(&piece).is_ok()).count();
    assert!(sent < 100, "{sent} MiB were taken");
    assert_eq!(&reader.join().unwrap(), b"HTTP/1.1 431 ");
    assert!(server.get("/").ends_with("page"));
    let after = server.memory("VmHWM:");
    assert!(after < before + 512, "{before} KiB before, {after} KiB after");
}

#[test]
fn any_number_of_endless_heads_takes_little_memory() {
    let server = start(&["--workers", "1"]);
    let part = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(7000));
    let held: Vec<TcpStream> = (0..connections(2000))
        .map(|_| {
            let mut stream = server.connect();
            // The server may close some of them at any time, so that their memory stays bounded.
            let _ = stream.write_all(part.as_bytes());
            stream
        })
        .collect();
    assert!(server.get("/").ends_with("page"));
    let kib = server.memory("RssAnon:");
    assert!(kib < MEMORY, "{kib} KiB for {} heads", held.len());
}

#[test]
fn slow_bodies_hold_up_no_client_and_are_cut() {
    let server = start(&["--workers", "1", "-c", "1"]);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\nfirst";
    let slow: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(head.as_bytes()).unwrap();
            stream
        })
        .collect();
    assert!(server.get("/").ends_with("page"));
    for mut stream in slow {
        let mut start = [0; 13];
        stream.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"HTTP/1.1 408 ");
    }
}

/// Waits for about a second without sleeping: until the server closes an idle connection.
fn tick(server: &Server) {
    let mut idle = server.connect();
    idle.write_all(GET.as_bytes()).unwrap();
    assert!(common::rest(idle).ends_with("page"));
}

#[test]
fn a_slow_reader_that_takes_bytes_is_kept_and_a_stalled_one_is_cut() {
    let server = start(&["--workers", "1", "-c", "2", "-k", "1"]);
    let mut readers = [server.connect(), server.connect()];
    for stream in &mut readers {
        stream.write_all(LAST.replace("/ ", "/large ").as_bytes()).unwrap();
    }
    let [mut slow, mut stuck] = readers;
    // Pieces so small that the server cannot write for longer than the two seconds, because the
    // kernel waits until a third of its buffer is free.
    let mut piece = vec![0; 64 << 10];
    for _ in 0..6 {
        slow.read_exact(&mut piece).unwrap();
        tick(&server);
    }
    let mut taken = Vec::new();
    slow.read_to_end(&mut taken).unwrap();
    assert!(taken.len() + 6 * piece.len() > LARGE, "the slow one was cut at {}", taken.len());
    taken.clear();
    let _ = stuck.read_to_end(&mut taken);
    assert!(taken.len() < LARGE, "the stalled reader got everything");
}

#[test]
fn half_closed_and_reset_connections_leave_nothing_behind() {
    let server = start(&["--workers", "1"]);
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", server.child.id())).unwrap().count();
    let before = descriptors();
    for number in 0..200 {
        let mut stream = server.connect();
        match number % 4 {
            // Nothing or a part of a request, and then the end.
            0 => stream.shutdown(Shutdown::Write).unwrap(),
            1 => stream.write_all(b"GET / HT").unwrap(),
            // A whole request, without waiting for the answer. Unread bytes make the close a reset.
            2 => stream.write_all(GET.replace("/ ", "/large ").as_bytes()).unwrap(),
            _ => stream.write_all([GET, GET, "GET"].concat().as_bytes()).unwrap(),
        }
    }
    let begin = Instant::now();
    while descriptors() > before + 1 {
        assert!(server.get("/").ends_with("page"));
        assert!(begin.elapsed() < DEADLINE, "{} of {before} descriptors", descriptors());
    }
}

/// Packs a folder with the packer.
#[expect(clippy::disallowed_methods, reason = "the test's own child, not part of a build")]
fn pack(folder: &Path) -> PathBuf {
    let out = folder.with_extension("pack");
    let mut packer = Command::new(env!("CARGO_BIN_EXE_static-server-pack"));
    let made = packer.arg("--in").arg(folder).arg("--out").arg(&out).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    out
}

/// Starts a server of a pack of the folder.
fn start_pack() -> (Server, PathBuf) {
    let place = folder();
    let pack = pack(place.path());
    let server = common::start_in(place, "", &["--pack", pack.to_str().unwrap()]);
    (server, pack)
}

#[test]
fn a_pack_truncated_while_it_is_served_only_ends_its_own_answers() {
    let (server, pack) = start_pack();
    let mut stream = server.connect();
    stream.write_all(GET.replace("/ ", "/large ").as_bytes()).unwrap();
    stream.read_exact(&mut [0; 100]).unwrap();
    let len = fs::metadata(&pack).unwrap().len();
    fs::File::options().write(true).open(&pack).unwrap().set_len(len / 2).unwrap();
    let mut body = Vec::new();
    let end = stream.read_to_end(&mut body);
    assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    assert!(body.len() < LARGE, "{} bytes came", body.len());
    // Small bodies were read at the start. Only the other request fails again.
    assert!(server.get("/").ends_with("page"));
    assert!(server.get("/large").len() < LARGE);
    assert!(server.get("/").ends_with("page"));
    fs::remove_file(pack).unwrap();
}

#[test]
fn a_new_pack_replaces_the_old_one_and_a_damaged_pack_does_not() {
    let (server, pack_path) = start_pack();
    let whole = fs::read(&pack_path).unwrap();
    let put = |bytes: &[u8]| {
        let new = pack_path.with_extension("new");
        fs::write(&new, bytes).unwrap();
        fs::rename(new, &pack_path).unwrap();
    };
    put(&whole[..whole.len() / 2]);
    server.until_log("cannot read the pack");
    assert!(server.get("/").ends_with("page"));
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("index.html"), "other").unwrap();
    let made = pack(other.path());
    put(&fs::read(&made).unwrap());
    server.until_body("/", "other");
    fs::remove_file(made).unwrap();
    fs::remove_file(pack_path).unwrap();
}

#[test]
fn a_file_that_is_not_a_pack_is_refused_at_the_start() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("site.pack");
    for bytes in [&b""[..], b"KILNPACK", &[0; 4096], b"PK\x03\x04 some other archive"] {
        fs::write(&path, bytes).unwrap();
        let output = command().arg("--pack").arg(&path).output().unwrap();
        assert_eq!(output.status.code(), Some(78));
        assert!(String::from_utf8_lossy(&output.stderr).contains("site.pack"));
    }
}

#[test]
fn an_endless_pipeline_costs_one_head() {
    let server = start(&["--workers", "1"]);
    let many = GET.repeat(500);
    let mut greedy: Vec<TcpStream> = (0..20).map(|_| server.connect()).collect();
    for stream in &mut greedy {
        stream.set_nonblocking(true).unwrap();
        while stream.write_all(many.as_bytes()).is_ok() {}
    }
    assert!(server.talk(LAST).ends_with("page"));
    let kib = server.memory("RssAnon:");
    assert!(kib < MEMORY, "{kib} KiB");
}
