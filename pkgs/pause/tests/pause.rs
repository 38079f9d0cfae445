//! Runs the binary as a child of the test.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PAUSE: &str = env!("CARGO_BIN_EXE_pause");

/// Far longer than any of this takes; it only stops a test that hangs.
const DEADLINE: Duration = Duration::from_secs(20);

#[expect(clippy::disallowed_methods, reason = "the test's own child, not part of a build")]
fn command(program: &str) -> Command {
    Command::new(program)
}

/// Starts a shell that leaves one child behind and becomes `pause`.
fn with_an_orphan() -> Child {
    let script = format!("true & exec {PAUSE}");
    command("/bin/sh").arg("-c").arg(script).stdin(Stdio::null()).spawn().unwrap()
}

fn wait_until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "the condition did not become true");
        std::thread::yield_now();
    }
}

/// True if the process waits in sigwait(3) and has no child left.
fn sleeps_alone(pid: u32) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    name == "pause\n" && stat.contains("(pause) S") && children.is_empty()
}

fn signal(child: &Child, signal: libc::c_int) {
    let pid = child.id().try_into().unwrap();
    // SAFETY: the child has not been waited for, so its number belongs to no other process.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

#[test]
fn orphans_are_reaped_and_both_signals_stop_it_cleanly() {
    for number in [libc::SIGTERM, libc::SIGINT] {
        let mut child = with_an_orphan();
        wait_until(|| sleeps_alone(child.id()));
        signal(&child, number);
        let status = child.wait().unwrap();
        assert_eq!((status.code(), status.signal()), (Some(0), None));
    }
}

#[test]
fn it_prints_its_version_and_refuses_other_arguments() {
    let output = command(PAUSE).arg("--version").output().unwrap();
    assert_eq!(output.stdout, format!("pause {}\n", env!("CARGO_PKG_VERSION")).into_bytes());
    assert_eq!(command(PAUSE).arg("--help").output().unwrap().status.code(), Some(64));
}
