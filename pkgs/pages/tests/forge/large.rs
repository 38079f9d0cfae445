//! Repositories that are far above the limits: refused with bounded memory and disk.

use std::io::{BufWriter, Write as _};
use std::process::Stdio;

use pages::git::limits::{Failure, Limit};
use pages::git::snapshot::Snapshot;
use pages::publish::pack::{PackError, build};
use pages::publish::walk::{Bounds, Stop, walk};

use crate::server::{Server, Work, branch, fetch, limits};

/// The most memory that all of this may take, in KiB. The largest part is one file of 32 MiB, and a
/// hundred thousand objects.
const PEAK_KIB_MAX: u64 = 300 << 10;

/// The size of a site in the syncer.
const SITE_BYTES_MAX: u64 = 512 << 20;

/// Makes a branch from a stream for `git fast-import` (git-fast-import(1)).
fn import(work: &Work, write: impl FnOnce(&mut dyn std::io::Write)) {
    let mut command = work.command(&["fast-import", "--quiet"]);
    command.current_dir(&work.bare).env("GIT_DIR", &work.bare).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stream = BufWriter::new(child.stdin.take().unwrap());
    write(&mut stream);
    stream.flush().unwrap();
    drop(stream);
    assert!(child.wait().unwrap().success());
}

/// The head of a commit; its files follow.
const COMMIT: &str =
    "commit refs/heads/main\ncommitter T <t@t.example> 1700000000 +0000\ndata 1\nx\n";

/// Writes a file that is one letter again and again, with a mark.
fn letters(stream: &mut dyn std::io::Write, mark: u8, bytes: usize) {
    write!(stream, "blob\nmark :{mark}\ndata {bytes}\n").unwrap();
    let block = vec![b'a' + mark; 1 << 20];
    (0..bytes >> 20).for_each(|_| stream.write_all(&block).unwrap());
    writeln!(stream).unwrap();
}

/// Returns the largest memory of this process so far, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn check_peak(what: &str) {
    let peak = peak();
    println!("{what}: peak of {} MiB", peak >> 10);
    assert!(peak < PEAK_KIB_MAX, "{what}: {peak} KiB");
}

fn fetched(server: &Server, name: &str) -> Result<Box<Snapshot>, Failure> {
    fetch(&server.fetcher(limits()), &branch(&format!("{}/{name}.git", server.https)))
}

/// A thousand folders with a thousand files each need a few objects if they are alike.
#[test]
fn a_million_files_are_refused() {
    let server = Server::find();
    for (name, is_alike) in [("million-alike", true), ("million-apart", false)] {
        let work = server.create(name, &[]);
        import(&work, |stream| {
            write!(stream, "blob\nmark :1\ndata 1\nx\n{COMMIT}").unwrap();
            for folder in 0..1000 {
                let tag = if is_alike { 0 } else { folder };
                for file in 0..1000 {
                    writeln!(stream, "M 100644 :1 {folder}/{tag}-{file}.html").unwrap();
                }
            }
        });
        let snapshot = fetched(&server, name).unwrap();
        let refused = walk(&*snapshot, snapshot.root(), "", &Bounds::default()).unwrap_err();
        assert!(matches!(refused, Stop::TooMany(_)), "{refused}");
        check_peak(name);
    }
}

#[test]
fn more_objects_than_the_limit_are_refused_before_they_are_received() {
    let server = Server::find();
    let work = server.create("objects", &[]);
    import(&work, |stream| {
        for file in 1..=110_000 {
            let text = file.to_string();
            write!(stream, "blob\nmark :{file}\ndata {}\n{text}\n", text.len()).unwrap();
        }
        write!(stream, "{COMMIT}").unwrap();
        for file in 1..=110_000 {
            writeln!(stream, "M 100644 :{file} {}/{file}.html", file % 100).unwrap();
        }
    });
    let limit = limits().objects;
    assert_eq!(fetched(&server, "objects").unwrap_err(), Failure::Limit(Limit::Objects(limit)));
    check_peak("objects");
}

/// A site stores equal files once, so seventeen contents of 32 MiB are above its limit.
#[test]
fn ten_gibibytes_are_refused() {
    let server = Server::find();
    let work = server.create("ten-gibibytes", &[]);
    import(&work, |stream| {
        (1..=17).for_each(|mark| letters(stream, mark, 32 << 20));
        write!(stream, "{COMMIT}").unwrap();
        for file in 0..320 {
            writeln!(stream, "M 100644 :{} {file}.bin", file % 17 + 1).unwrap();
        }
    });
    let snapshot = fetched(&server, "ten-gibibytes").unwrap();
    let files = walk(&*snapshot, snapshot.root(), "", &Bounds::default()).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let pack = tempfile::tempfile_in(scratch.path()).unwrap();
    let refused = build(&*snapshot, files, SITE_BYTES_MAX, None, scratch.path(), &pack);
    assert!(matches!(refused.unwrap_err(), PackError::TooLarge(_)));
    let written = pack.metadata().unwrap().len();
    assert!(written < SITE_BYTES_MAX, "{written} bytes on disk");
    check_peak("ten gibibytes");
}

#[test]
fn a_huge_file_is_left_out_by_the_server_or_refused() {
    let server = Server::find();
    let work = server.create("huge", &[]);
    import(&work, |stream| {
        letters(stream, 1, 1 << 30);
        write!(stream, "{COMMIT}M 100644 :1 huge.bin\nM 100644 inline a.html\ndata 1\na\n")
            .unwrap();
    });
    let snapshot = fetched(&server, "huge").unwrap();
    let files = crate::server::files(&snapshot);
    let expected = [("/a.html", "a"), ("/huge.bin", "too large")];
    assert_eq!(files, expected.map(|(path, text)| (path.to_owned(), text.to_owned())));
    // A server without filters sends it.
    work.run(&[
        "--git-dir",
        work.bare.to_str().unwrap(),
        "config",
        "uploadpack.allowFilter",
        "false",
    ]);
    let refused = fetched(&server, "huge").unwrap_err();
    assert!(matches!(refused, Failure::Protocol(_) | Failure::Limit(_)), "{refused}");
    check_peak("huge");
}
