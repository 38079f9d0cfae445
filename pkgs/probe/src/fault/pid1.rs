//! PID 1 itself: frozen, with a console that is full, and what it costs.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kiln_contract::{cgroup, path};

use crate::node::{self, ROOT};

/// The longest record that the kernel log takes without cutting it.
const RECORD: usize = 900;

/// More than a pipe and QEMU's buffers hold.
const RECORDS: usize = 200;

/// A record that takes longer than this is held up: the kernel waits 10 ms for each byte that the
/// serial line does not take (`wait_for_xmitr` of drivers/tty/serial/8250), so 9 s for a record.
const BLOCKED: Duration = Duration::from_secs(3);

/// Freezes PID 1: its control group can be, by who may write there.
pub(super) fn freeze() -> Result<String> {
    let file = format!("{ROOT}/sys/fs/cgroup{}/cgroup.freeze", cgroup::INIT);
    fs::write(&file, "1").with_context(|| file.clone())?;
    Ok("PID 1 is frozen\n".to_owned())
}

/// Asks PID 1 to panic; only a build with hooks does.
pub(super) fn panic() -> Result<String> {
    let fifo = format!("{ROOT}{}", path::POWER_REQUEST);
    fs::write(&fifo, "panic\n").with_context(|| fifo.clone())?;
    Ok("asked for a panic\n".to_owned())
}

/// Crashes the kernel, a moment after the answer (Documentation/admin-guide/sysrq.rst, `c`).
pub(super) fn crash_kernel() -> String {
    thread::spawn(|| {
        thread::sleep(Duration::from_secs(1));
        fs::write("/proc/sysrq-trigger", "c")
    });
    "crashes soon\n".to_owned()
}

/// Writes to the kernel log what the kernel copies to every console.
pub(super) fn fill_console() -> Result<String> {
    let mut log = OpenOptions::new().write(true).open("/dev/kmsg").context("/dev/kmsg")?;
    let record = format!("<12>{}\n", "full ".repeat(RECORD / 5));
    for _ in 0..RECORDS {
        let begin = Instant::now();
        log.write_all(record.as_bytes()).context("writing the kernel log")?;
        if begin.elapsed() > BLOCKED {
            return Ok("the console is full\n".to_owned());
        }
    }
    bail!("somebody reads the console")
}

/// `NAME NUMBER` lines: resident memory in KiB, descriptors, threads, and zombies that nobody has reaped.
pub(crate) fn figures() -> Result<String> {
    let status = fs::read_to_string("/proc/1/status").context("/proc/1/status")?;
    let field = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let word = line.and_then(|line| line.split_ascii_whitespace().next());
        word.and_then(|word| word.parse().ok()).with_context(|| format!("no {name}"))
    };
    let descriptors = fs::read_dir("/proc/1/fd").context("/proc/1/fd")?.count();
    Ok(node::text(&[
        format!("resident {}", field("VmRSS")?),
        format!("threads {}", field("Threads")?),
        format!("descriptors {descriptors}"),
        format!("zombies {}", zombies()?),
    ]))
}

/// Processes that ended and whose parent is PID 1.
fn zombies() -> Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir("/proc").context("reading /proc")?.flatten() {
        // Most entries are no processes, and a process may end while it is looked at.
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
