//! Faults of PID 1 itself, and its memory, descriptors and zombies.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kiln_contract::{cgroup, path};

use crate::node::{self, ROOT};

/// The longest record that the kernel log does not cut, in bytes.
const RECORD_BYTES_MAX: usize = 900;

/// The number of records: more than a pipe and QEMU's buffers hold.
const RECORDS: usize = 200;

/// The time after which a record counts as blocked. The kernel waits 10 ms for each byte that the serial
/// port does not take (`wait_for_xmitr` of drivers/tty/serial/8250), which is 9 s for a record.
const BLOCKED: Duration = Duration::from_secs(3);

/// Freezes PID 1 through its control group.
pub(super) fn freeze() -> Result<String> {
    let file = format!("{ROOT}/sys/fs/cgroup{}/cgroup.freeze", cgroup::INIT);
    fs::write(&file, "1").with_context(|| file.clone())?;
    Ok("PID 1 is frozen\n".to_owned())
}

/// Makes PID 1 panic, if it is built with hooks.
pub(super) fn panic() -> Result<String> {
    let fifo = format!("{ROOT}{}", path::POWER_REQUEST);
    fs::write(&fifo, "panic\n").with_context(|| fifo.clone())?;
    Ok("asked for a panic\n".to_owned())
}

/// Crashes the kernel one second after the answer (Documentation/admin-guide/sysrq.rst, `c`).
pub(super) fn crash_kernel() -> String {
    thread::spawn(|| {
        thread::sleep(Duration::from_secs(1));
        fs::write("/proc/sysrq-trigger", "c")
    });
    "crashes soon\n".to_owned()
}

/// Fills the console: writes records to the kernel log until one blocks.
pub(super) fn fill_console() -> Result<String> {
    let mut log =
        OpenOptions::new().write(true).open("/dev/kmsg").context("cannot open /dev/kmsg")?;
    let record = format!("<12>{}\n", "full ".repeat(RECORD_BYTES_MAX / 5));
    for _ in 0..RECORDS {
        let begin = Instant::now();
        log.write_all(record.as_bytes()).context("cannot write to the kernel log")?;
        if begin.elapsed() > BLOCKED {
            return Ok("the console is full\n".to_owned());
        }
    }
    bail!("the console is still read")
}

/// Lists PID 1's resident memory in KiB, threads, descriptors and unreaped zombies, as `NAME NUMBER`.
pub(crate) fn figures() -> Result<String> {
    let status = fs::read_to_string("/proc/1/status").context("cannot read /proc/1/status")?;
    let field = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let word = line.and_then(|line| line.split_ascii_whitespace().next());
        word.and_then(|word| word.parse().ok())
            .with_context(|| format!("/proc/1/status has no {name}"))
    };
    let descriptors = fs::read_dir("/proc/1/fd").context("cannot read /proc/1/fd")?.count();
    Ok(node::text(&[
        format!("resident {}", field("VmRSS")?),
        format!("threads {}", field("Threads")?),
        format!("descriptors {descriptors}"),
        format!("zombies {}", zombies()?),
    ]))
}

/// Counts the processes that have ended and whose parent is PID 1.
fn zombies() -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir("/proc").context("cannot read /proc")?.flatten() {
        // Most entries are not processes, and a process may exit in the meantime.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        count += usize::from(is_orphaned_zombie(&stat));
    }
    Ok(count)
}

fn is_orphaned_zombie(stat: &str) -> bool {
    let words = stat.rsplit_once(") ").map(|(_, rest)| rest.split_ascii_whitespace());
    words.is_some_and(|mut words| words.next() == Some("Z") && words.next() == Some("1"))
}

#[cfg(test)]
mod tests {
    use super::is_orphaned_zombie;

    #[test]
    fn only_zombies_of_pid_1_count() {
        assert!(is_orphaned_zombie("7 (a) Z 1 7 7 0"));
        assert!(!is_orphaned_zombie("7 (a) S 1 7 7 0"));
        assert!(!is_orphaned_zombie("7 (a) Z 12 7 7 0"));
        assert!(!is_orphaned_zombie(""));
    }
}
