//! The time that kubelet wants before a shutdown. kubelet writes it to a drop-in file for logind.
//!
//! The file sets `InhibitDelayMaxSec=` (`logind.conf(5)`) to the sum of kubelet's grace periods in
//! whole seconds. kubelet's own configuration is not read for it.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags};

/// The drop-in file. `/etc` is in memory, so reading it cannot hang.
pub const DROP_IN: &str = "/etc/systemd/logind.conf.d/99-kubelet.conf";

/// The longest file in bytes. kubelet's has about 60.
const FILE_MAX: u64 = 4096;

/// The longest time, longer than any node waits, so that sums of durations do not overflow.
const GRACE_MAX: Duration = Duration::from_hours(24);

/// Reads the file. Returns `None` if it is missing or malformed.
///
/// It is opened without waiting, because a process that may write to `/etc` could have put a pipe
/// there.
#[must_use]
pub fn read(file: &Path) -> Option<Duration> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(file, flags, Mode::empty()).ok()?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file).ok()?.st_mode);
    if kind != FileType::RegularFile {
        return None;
    }
    let mut text = String::new();
    std::fs::File::from(file).take(FILE_MAX).read_to_string(&mut text).ok()?;
    parse(&text)
}

/// Returns the last `InhibitDelayMaxSec=` of section `[Login]`, in whole seconds.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    let mut in_section = false;
    let mut found = None;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            in_section = line == "[Login]";
        } else if in_section && let Some(value) = line.strip_prefix("InhibitDelayMaxSec=") {
            found = value.trim().parse().ok().map(Duration::from_secs);
        }
    }
    found.map(|grace: Duration| grace.min(GRACE_MAX))
}

/// True if a configuration of kubelet asks for a graceful shutdown, as far as its text shows.
///
/// It only decides whether a kubelet without an inhibitor is an error.
#[must_use]
pub fn is_configured(yaml: &str) -> bool {
    yaml.lines().any(|line| {
        let line = line.split(" #").next().unwrap_or_default();
        let (key, value) = line.split_once(':').unwrap_or_default();
        match key {
            "shutdownGracePeriod" => value.contains(|digit| ('1'..='9').contains(&digit)),
            "shutdownGracePeriodByPodPriority" => value.trim() != "[]",
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{is_configured, parse};

    #[test]
    fn kubelets_drop_in_is_read() {
        let text = "# Kubelet logind override\n[Login]\nInhibitDelayMaxSec=30\n";
        assert_eq!(parse(text), Some(Duration::from_secs(30)));
    }

    #[test]
    fn malformed_files_have_no_grace() {
        for text in ["", "InhibitDelayMaxSec=30", "[Login]\nInhibitDelayMaxSec=-1", "[Login]\n"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        let text = "[Login]\nInhibitDelayMaxSec=18446744073709551615\n";
        assert_eq!(parse(text), Some(Duration::from_hours(24)));
    }

    #[test]
    fn a_missing_inhibitor_is_an_error_only_with_a_configured_grace() {
        for yes in ["a: b\nshutdownGracePeriod: 30s\n", "shutdownGracePeriodByPodPriority:\n- x\n"]
        {
            assert!(is_configured(yes), "{yes}");
        }
        for no in [
            "",
            "shutdownGracePeriod: 0s\n",
            "# shutdownGracePeriod: 30s\n",
            "shutdownGracePeriod: \"0\" # 30s\n",
            "shutdownGracePeriodCriticalPods: 10s\n",
        ] {
            assert!(!is_configured(no), "{no}");
        }
    }

    proptest! {
        #[test]
        fn the_last_value_of_the_section_wins(other in "[a-zA-Z=#\n]{0,100}", seconds in 0_u64..80_000) {
            let text = format!("{other}\n[Login]\nInhibitDelayMaxSec={seconds}");
            prop_assert_eq!(parse(&text), Some(Duration::from_secs(seconds)));
        }
    }
}
