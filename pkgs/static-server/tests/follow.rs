//! Content that changes while it is served.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]

mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::mpsc;

use common::{DEADLINE, GET, LARGE, LAST, Server, command, rest, start, start_in};
use rustix::process::Signal;

/// Makes a revision with two files that contain its name.
fn revision(root: &Path, name: &str) {
    fs::create_dir(root.join(name)).unwrap();
    for file in ["index.html", "other"] {
        fs::write(root.join(name).join(file), name).unwrap();
    }
}

/// Switches a link as kubelet and git-sync do: by renaming a new link over it.
fn flip(root: &Path, link: &str, to: &str) {
    symlink(to, root.join("new-link")).unwrap();
    fs::rename(root.join("new-link"), root.join(link)).unwrap();
}

#[test]
fn a_switched_link_swaps_everything_even_if_the_old_revision_is_deleted_at_once() {
    let folder = tempfile::tempdir().unwrap();
    revision(folder.path(), "one");
    symlink("one", folder.path().join("current")).unwrap();
    let server = start_in(folder, "current", &[]);
    assert!(server.get("/").ends_with("one"));
    revision(server.path(), "two");
    flip(server.path(), "current", "two");
    fs::remove_dir_all(server.path().join("one")).unwrap();
    let begin = std::time::Instant::now();
    loop {
        let (page, other) = (server.get("/"), server.get("/other"));
        for answer in [&page, &other] {
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            assert!(answer.ends_with("one") || answer.ends_with("two"), "{answer}");
        }
        assert!(!(page.ends_with("two") && other.ends_with("one")), "the old revision came back");
        if other.ends_with("two") {
            break;
        }
        assert!(begin.elapsed() < DEADLINE);
    }
}

#[test]
fn a_config_map_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    revision(folder.path(), "..data-1");
    symlink("..data-1", folder.path().join("..data")).unwrap();
    for file in ["index.html", "other"] {
        symlink(Path::new("..data").join(file), folder.path().join(file)).unwrap();
    }
    let server = start_in(folder, "", &[]);
    assert!(server.get("/other").ends_with("..data-1"));
    assert!(server.get("/..data/other").starts_with("HTTP/1.1 404 "));
    revision(server.path(), "..data-2");
    flip(server.path(), "..data", "..data-2");
    fs::remove_dir_all(server.path().join("..data-1")).unwrap();
    server.until_body("/other", "..data-2");
}

#[test]
fn an_overwritten_file_is_read_again_and_new_files_appear() {
    let server = start(&[]);
    fs::write(server.path().join("index.html"), "a longer page").unwrap();
    fs::write(server.path().join("new"), "new").unwrap();
    server.until_body("/", "a longer page");
    server.until_body("/new", "new");
    fs::remove_file(server.path().join("new")).unwrap();
    server.until_body("/new", "404 Not Found\n");
}

/// Returns the text of a numbered write. Letter and length differ from those of the last write.
fn written(number: u8) -> String {
    let letter = char::from(b'a' + number % 26);
    std::iter::repeat_n(letter, usize::from(number) * 1000).collect()
}

/// True if an answer is a 200. Its body must then be of one write: all of it, or the part that was
/// there at one moment, because a file can rest in the middle of a write.
fn is_of_one_write(answer: &str) -> bool {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
    if head.starts_with("HTTP/1.1 404 ") {
        return false;
    }
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let is_of = |number| written(number).starts_with(body);
    assert!((1..u8::MAX).any(is_of), "{} bytes are not of a single write", body.len());
    true
}

#[test]
fn a_file_that_keeps_changing_is_never_mixed_and_correct_when_it_rests() {
    // Small, because the time between two checks grows with the duration of the last one.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("index.html"), "page").unwrap();
    fs::write(folder.path().join("busy"), written(1)).unwrap();
    let server = start_in(folder, "", &[]);
    let path = server.path().join("busy");
    // One message makes the writer pause, and the next makes it continue. The writer stops with the
    // sender.
    let (word, words) = mpsc::channel();
    let (resting, rests) = mpsc::channel();
    let writer = std::thread::spawn(move || {
        for number in (1..u8::MAX).cycle() {
            // In place.
            fs::write(&path, written(number)).unwrap();
            match words.try_recv() {
                Ok(()) if resting.send(number).is_ok() && words.recv().is_ok() => {}
                Err(mpsc::TryRecvError::Empty) => {}
                _ => return,
            }
        }
    });
    let mut found = 0;
    for _ in 0..5 {
        for _ in 0..20 {
            server.signal(Signal::HUP);
            found += usize::from(is_of_one_write(&server.get("/busy")));
            assert!(server.get("/").ends_with("page"));
        }
        word.send(()).unwrap();
        let number = rests.recv().unwrap();
        server.signal(Signal::HUP);
        server.until_body("/busy", &written(number));
        found += usize::from(is_of_one_write(&server.get("/busy")));
        word.send(()).unwrap();
    }
    drop(word);
    writer.join().unwrap();
    server.until_body("/ready", "ok\n");
    assert!(found >= 5, "{found} answers contained the file");
}

#[test]
fn an_answer_under_way_keeps_the_content_that_it_started_with() {
    let server = start(&[]);
    let mut slow = server.connect();
    slow.write_all(GET.replace("/ HTTP", "/large HTTP").as_bytes()).unwrap();
    slow.read_exact(&mut [0; 100]).unwrap();
    fs::write(server.path().join("large"), "small now").unwrap();
    server.until_body("/large", "small now");
    slow.shutdown(std::net::Shutdown::Write).unwrap();
    let all = rest(slow);
    assert!(all.len() > LARGE && all.ends_with('x'));
}

#[test]
fn a_large_unchanged_file_is_not_cut_by_changes_of_other_files() {
    let server = start(&[]);
    let mut slow = server.connect();
    slow.write_all(LAST.replace("/ HTTP", "/large HTTP").as_bytes()).unwrap();
    slow.read_exact(&mut [0; 100]).unwrap();
    for number in 0..4 {
        let text = format!("renewed {number}");
        fs::write(server.path().join("small.txt"), &text).unwrap();
        server.until_body("/small.txt", &text);
    }
    let all = rest(slow);
    assert!(all.len() > LARGE && all.ends_with('x'));
}

#[test]
fn readers_of_the_content_before_the_last_are_cut_before_more_is_read() {
    let folder = common::folder();
    let config = folder.path().join(".settings.toml");
    fs::write(&config, "poll-secs = 0\n").unwrap();
    let server = start_in(folder, "", &["--config", config.to_str().unwrap()]);
    let ask = |server: &Server| {
        let mut slow = server.connect();
        slow.write_all(LAST.replace("/ HTTP", "/large HTTP").as_bytes()).unwrap();
        slow.read_exact(&mut [0; 100]).unwrap();
        slow
    };
    let mut first = ask(&server);
    server.signal(Signal::HUP);
    server.until_log("has been read again");
    let second = ask(&server);
    fs::write(&config, "hosts = \"/nowhere\"\n").unwrap();
    server.signal(Signal::HUP);
    server.until_log("the old settings and content stay");
    let mut rest_of_first = Vec::new();
    let _ = first.read_to_end(&mut rest_of_first);
    assert!(rest_of_first.len() < LARGE, "the reader was kept");
    assert!(rest(second).len() > LARGE - 100, "readers of the current content are not cut");
}

#[test]
fn above_the_memory_limit_files_stay_open_and_a_truncated_one_only_ends_its_answer() {
    let server = start(&["--memory-limit", "1", "--poll-secs", "0"]);
    let whole = server.get("/large");
    assert!(whole.len() > LARGE && whole.ends_with('x'));
    let mut slow = server.connect();
    slow.write_all(GET.replace("/ HTTP", "/large HTTP").as_bytes()).unwrap();
    slow.read_exact(&mut [0; 100]).unwrap();
    let file = fs::File::options().write(true).open(server.path().join("large")).unwrap();
    file.set_len(10).unwrap();
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert!(rest.len() < LARGE, "missing bytes were sent");
    assert!(server.get("/").ends_with("page"));
}

#[test]
fn a_hangup_reads_settings_again_and_a_wrong_file_changes_nothing() {
    let folder = common::folder();
    let config = folder.path().join(".settings.toml");
    fs::write(&config, "cache-html = \"max-age=1\"\npoll-secs = 0\n").unwrap();
    let server = start_in(folder, "", &["--config", config.to_str().unwrap()]);
    assert!(server.get("/").contains("\r\nCache-Control: max-age=1\r\n"));
    fs::write(&config, "cache-html = \"max-age=2\"\nnonsense = 1\n").unwrap();
    server.signal(Signal::HUP);
    server.until_log("nonsense is not a setting");
    assert!(server.get("/").contains("\r\nCache-Control: max-age=1\r\n"));
    fs::write(&config, "cache-html = \"max-age=2\"\npoll-secs = 0\n").unwrap();
    server.signal(Signal::HUP);
    server.until_log("has been read again");
    assert!(server.get("/").contains("\r\nCache-Control: max-age=2\r\n"));
}

#[test]
fn strict_refuses_content_that_would_be_left_out() {
    let folder = tempfile::tempdir().unwrap();
    symlink("/etc/hostname", folder.path().join("out")).unwrap();
    fs::write(folder.path().join("_redirects"), "/a\n").unwrap();
    let output = command().arg("--strict").arg("-s").arg(folder.path()).output().unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{log}");
    assert!(
        log.contains("/out is a link that leaves the folder") && log.contains("_redirects:1: "),
        "{log}"
    );
    let server = start_in(folder, "", &[]);
    assert!(server.get("/ready").ends_with("ok\n"));
    assert!(server.get("/out").starts_with("HTTP/1.1 404 "));
}
