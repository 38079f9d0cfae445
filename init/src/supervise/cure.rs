//! Reboots as a cure for a failing service (`kiln.cure-reboots=N`): at most N in 24 hours, counted
//! on the data partition.
//!
//! Reboots that are not counted could follow each other forever, so a reboot is recorded first, and
//! without a data partition a service causes no reboot. A thread does the work, because `/var` can hang.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use kiln_base::replace::{self, Durability};

use crate::console::kmsg;
use crate::storage::var::Var;
use crate::supervise::service::Service;

/// One line per reboot: seconds since 1970, a blank, the service.
const FILE: &str = "/var/lib/kiln/cure-reboots";

/// The time in seconds after which a reboot no longer counts.
const DAY: u64 = 24 * 60 * 60;

/// The number of lines that are kept and read. It is larger than any N.
const LINES_MAX: usize = 256;

/// The stack size of the thread, enough for a file, a few lines and a rename.
const STACK: usize = 64 * 1024;

/// Returns how many reboots a failing service may cause: none without a data partition, because
/// they could not be counted.
#[must_use]
pub fn allowed(var: Var, wanted: u64) -> u8 {
    if wanted > 0 && var == Var::Memory {
        kmsg::warn("no data partition to count reboots on: a failing service causes none");
        return 0;
    }
    u8::try_from(wanted).unwrap_or(u8::MAX)
}

/// Returns the number of reboots in a file that still count.
///
/// All of them count except those that are more than a day old. A reboot in the future counts,
/// because a clock was or is wrong, and so does a malformed line.
#[must_use]
pub fn recent(text: &str, now: u64) -> usize {
    let old = |line: &&str| {
        let time = line.split(' ').next().and_then(|time| time.parse::<u64>().ok());
        time.is_some_and(|time| time.saturating_add(DAY) <= now)
    };
    text.lines().take(LINES_MAX).filter(|line| !old(line)).count()
}

/// Returns the file with one more reboot, cut to the number of lines that are kept.
fn with(text: &str, now: u64, service: Service) -> String {
    let lines: Vec<&str> = text.lines().take(LINES_MAX).collect();
    let kept = &lines[lines.len().saturating_sub(LINES_MAX - 1)..];
    let lines = kept.iter().map(|line| format!("{line}\n"));
    lines.chain([format!("{now} {service}\n")]).collect()
}

/// The length of an answer in bytes: the service's index, and 1 if the reboot is granted.
pub const ANSWER: usize = 2;

/// Records a reboot in a thread, if fewer than `allowed` count. The answer goes to `done`.
pub fn record(service: Service, allowed: u8, done: OwnedFd) -> Result<()> {
    let work = move || {
        let granted = record_in(Path::new(FILE), service, allowed, now());
        if matches!(granted, Ok(false)) {
            kmsg::warn(format_args!("{allowed} reboots as a cure in 24 h, causing no more"));
        }
        let granted = kmsg::warn_on_error(granted.context("cannot record a reboot")) == Some(true);
        let answer = [u8::try_from(service.index()).unwrap_or_default(), u8::from(granted)];
        let _ = rustix::io::write(&done, &answer);
    };
    let thread = thread::Builder::new().name("cure".into()).stack_size(STACK).spawn(work);
    thread.map(drop).context("cannot start the cure's thread")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

fn record_in(file: &Path, service: Service, allowed: u8, now: u64) -> Result<bool> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        text => text.with_context(|| format!("cannot read {}", file.display()))?,
    };
    if recent(&text, now) >= usize::from(allowed) {
        return Ok(false);
    }
    // The reboot follows at once, and the next boot must count it.
    replace::write(file, with(&text, now, service).as_bytes(), 0o644, Durability::FileAndFolder)
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{DAY, LINES_MAX, recent, record_in, with};
    use crate::supervise::service::Service;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn a_reboot_older_than_a_day_does_not_count() {
        let text = format!("{} kubelet\n{} kubelet\n", NOW - DAY, NOW - DAY + 1);
        assert_eq!(recent(&text, NOW), 1);
    }

    #[test]
    fn with_a_wrong_clock_every_reboot_counts() {
        let text = format!("{NOW} kubelet\n{NOW} containerd\n");
        assert_eq!(recent(&text, 12), 2, "1970");
        let in_2100 = "4102444800 kubelet\n";
        assert_eq!(recent(in_2100, NOW), 1);
        assert_eq!(recent("rubbish\n", NOW), 1);
    }

    #[test]
    fn no_more_than_allowed_are_ever_granted_in_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("cure-reboots");
        let granted = |now| record_in(&file, Service::Kubelet, 2, now).unwrap();
        assert!(granted(NOW) && granted(NOW + 60) && !granted(NOW + 120));
        assert!(!granted(5), "a clock that was set back");
        assert!(granted(NOW + DAY) && !granted(NOW + DAY + 1));
    }

    #[test]
    fn a_reboot_that_cannot_be_counted_is_not_granted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("missing/cure-reboots");
        assert!(record_in(&file, Service::Kubelet, 2, NOW).is_err());
    }

    proptest! {
        #[test]
        fn any_file_is_read_and_stays_bounded(text in "(.{0,12}\n?){0,300}", now in any::<u64>()) {
            let more = with(&text, now, Service::Containerd);
            prop_assert!(more.lines().count() <= LINES_MAX);
            prop_assert!(recent(&more, now) >= 1);
        }
    }
}
