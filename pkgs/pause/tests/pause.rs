//! The binary itself, as a child of the test.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PAUSE: &str = env!("CARGO_BIN_EXE_pause");

/// Far above what any of this takes; it only ends a test that would hang.
const DEADLINE: Duration = Duration::from_secs(20);

#[expect(clippy::disallowed_methods, reason = "the test's own child, not part of a build")]
fn command(program: &str) -> Command {
    Command::new(program)
}

/// A shell that leaves one child behind and becomes `pause`.
fn with_an_orphan() -> Child {
    let script = format!("true & exec {PAUSE}");
    command("/bin/sh").arg("-c").arg(script).stdin(Stdio::null()).spawn().unwrap()
}

fn until(what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < DEADLINE, "it did not happen");
        std::thread::yield_now();
    }
}

/// Whether the process waits in sigwait(3), with no child left.
fn sleeps_alone(pid: u32) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    name == "pause\n" && stat.contains("(pause) S") && children.is_empty()
}

fn signal(child: &Child, signal: libc::c_int) {
    let pid = child.id().try_into().unwrap();
    // SAFETY: the child is ours and not waited for yet, so its number is not given to another.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

#[test]
fn orphans_are_reaped_and_both_signals_end_it_well() {
    for number in [libc::SIGTERM, libc::SIGINT] {
        let mut child = with_an_orphan();
        until(|| sleeps_alone(child.id()));
        signal(&child, number);
        let status = child.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (Some(0), None));
    }
}

#[test]
fn it_says_its_version_and_refuses_the_rest() {
    let output = command(PAUSE).arg("--version").output().unwrap();
    assert_eq!(output.stdout, format!("pause {}\n", env!("CARGO_PKG_VERSION")).into_bytes());
    assert_eq!(command(PAUSE).arg("--help").output().unwrap().status.code(), Some(64));
}
