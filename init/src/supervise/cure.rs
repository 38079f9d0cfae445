//! Reboots as a cure for a failing service (`kiln.cure-reboots=N`): at most N in 24 hours, counted
//! on the data partition.
//!
//! Reboots that are not counted could follow each other forever, so a reboot is recorded first, and
//! without a data partition a service causes no reboot. A thread does the work, because `/var` can hang.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use kiln_base::replace::Durability;

use crate::console::kmsg;
use crate::kernel::beneath::{self, Folder};
use crate::machine::rtc;
use crate::storage::var::{self, Var};
use crate::supervise::service::Service;

/// The folder in `/var`.
const FOLDER: &str = "lib/kiln";

/// One line per reboot: seconds since 1970, a blank, the service.
const FILE: &str = "cure-reboots";

/// The largest file in bytes, some times as large as one that was written here.
const FILE_BYTES_MAX: u64 = 64 * 1024;

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

/// Returns the lines of the reboots that still count: all except those that are more than a day old.
///
/// A reboot whose time is in the future or implausible, and a malformed line, were written with a
/// wrong clock or by a stranger, so their age is unknown. They count as reboots of now, and thus for
/// a day. If the clock is implausible now, no age is known, and everything counts and stays as it is.
#[must_use]
pub fn recent(text: &str, now: u64) -> Vec<String> {
    let lines = text.lines().take(LINES_MAX);
    if !rtc::is_plausible(now) {
        return lines.map(str::to_owned).collect();
    }
    let dated = lines.filter_map(|line| {
        let (time, rest) = line.split_once(' ').unwrap_or(("", line));
        match time.parse::<u64>().ok().filter(|time| rtc::is_plausible(*time) && *time <= now) {
            Some(time) if time.saturating_add(DAY) <= now => None,
            Some(_) => Some(line.to_owned()),
            None => Some(format!("{now} {rest}")),
        }
    });
    dated.collect()
}

/// Returns the text of a file with these lines, cut to the number that is kept.
fn text(lines: &[String]) -> String {
    let kept = &lines[lines.len().saturating_sub(LINES_MAX)..];
    kept.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

/// The length of an answer in bytes: the service's index, and 1 if the reboot is granted.
pub const ANSWER: usize = 2;

/// Records a reboot in a thread, if fewer than `allowed` count. The answer goes to `done`.
pub fn record(service: Service, allowed: u8, done: OwnedFd) -> Result<()> {
    let work = move || {
        let granted = var::open().context("cannot open the data partition");
        let granted = granted.and_then(|var| record_in(&var, service, allowed, now()));
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

/// Records a reboot below `var` if fewer than `allowed` count.
fn record_in(var: &Folder, service: Service, allowed: u8, now: u64) -> Result<bool> {
    let folder = var.make(FOLDER).with_context(|| format!("cannot make {FOLDER}"))?;
    let path = folder.path_of(FILE);
    let before = read(&folder).with_context(|| format!("cannot read {}", path.display()))?;
    let mut lines = recent(&before, now);
    let granted = lines.len() < usize::from(allowed);
    if granted {
        lines.push(format!("{now} {service}"));
    }
    let after = text(&lines);
    if after != before {
        // The reboot follows at once, and the next boot must count it.
        folder
            .replace(FILE, after.as_bytes(), 0o644, Durability::FileAndFolder)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(granted)
}

/// Reads the file. A file that is not ours counts as one reboot, because it may have replaced ours.
fn read(folder: &Folder) -> std::io::Result<String> {
    match folder.read(FILE, FILE_BYTES_MAX) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) if error.kind() == ErrorKind::FileTooLarge || beneath::is_strange(&error) => {
            Ok("unreadable\n".into())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::{DAY, FOLDER, Folder, LINES_MAX, recent, record_in, text};
    use crate::supervise::service::Service;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn a_reboot_older_than_a_day_does_not_count() {
        let text = format!("{} kubelet\n{} kubelet\n", NOW - DAY, NOW - DAY + 1);
        assert_eq!(recent(&text, NOW), [format!("{} kubelet", NOW - DAY + 1)]);
    }

    #[test]
    fn with_a_wrong_clock_every_reboot_counts() {
        let text = format!("{NOW} kubelet\n{} containerd\n", NOW - 2 * DAY);
        assert_eq!(recent(&text, 12).len(), 2, "1970");
        assert_eq!(recent(&text, 4_200_000_000).len(), 2, "2103");
    }

    #[test]
    fn a_reboot_of_unknown_age_counts_for_a_day() {
        for line in ["4102444800 kubelet", "12 kubelet", "rubbish", "1800000001 kubelet", ""] {
            let kept = recent(&format!("{line}\n"), NOW);
            assert!(kept[0].starts_with(&format!("{NOW} ")), "{kept:?}");
            assert_eq!(recent(&text(&kept), NOW + DAY - 1), kept);
            assert_eq!(recent(&text(&kept), NOW + DAY), [""; 0], "{line}");
        }
    }

    #[test]
    fn a_clock_from_the_future_forbids_the_cure_for_a_day_only() {
        let var = tempfile::tempdir().unwrap();
        let var = Folder::open(var.path()).unwrap();
        let granted = |now| record_in(&var, Service::Kubelet, 1, now).unwrap();
        assert!(granted(NOW + 1000 * DAY), "a clock that is wrong by three years");
        assert!(!granted(NOW));
        assert!(!granted(NOW + DAY - 1));
        assert!(granted(NOW + DAY));
    }

    #[test]
    fn no_more_than_allowed_are_ever_granted_in_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let var = Folder::open(folder.path()).unwrap();
        let granted = |now| record_in(&var, Service::Kubelet, 2, now).unwrap();
        assert!(granted(NOW) && granted(NOW + 60) && !granted(NOW + 120));
        assert!(!granted(5), "a clock that was set back");
        assert!(granted(NOW + DAY) && !granted(NOW + DAY + 1));
    }

    #[test]
    fn a_reboot_that_cannot_be_counted_is_not_granted() {
        let folder = tempfile::tempdir().unwrap();
        let var = Folder::open(folder.path()).unwrap();
        drop(folder);
        assert!(record_in(&var, Service::Kubelet, 2, NOW).is_err());
    }

    #[test]
    fn a_planted_file_counts_as_one_reboot_and_is_replaced() {
        for kind in ["link", "folder", "huge"] {
            let folder = tempfile::tempdir().unwrap();
            let var = Folder::open(folder.path()).unwrap();
            let file = var.make(FOLDER).unwrap().path_of("cure-reboots");
            match kind {
                "link" => std::os::unix::fs::symlink("/etc/passwd", &file).unwrap(),
                "folder" => fs::create_dir(&file).unwrap(),
                _ => fs::File::create(&file).unwrap().set_len(10 << 30).unwrap(),
            }
            assert!(!record_in(&var, Service::Kubelet, 1, NOW).unwrap(), "{kind}");
            assert!(record_in(&var, Service::Kubelet, 1, NOW + DAY).unwrap(), "{kind}");
            assert!(fs::symlink_metadata(&file).unwrap().is_file(), "{kind}");
        }
    }

    proptest! {
        #[test]
        fn any_file_is_read_and_stays_bounded(before in "(.{0,12}\n?){0,300}", now in any::<u64>()) {
            let mut lines = recent(&before, now);
            lines.push(format!("{now} kubelet"));
            let after = text(&lines);
            prop_assert!(after.lines().count() <= LINES_MAX);
            prop_assert!(!recent(&after, now).is_empty());
        }
    }
}
