//! How long kubelet wants a shutdown to wait, as it tells logind: by a drop-in file.
//!
//! `logind.conf(5)`, `InhibitDelayMaxSec=`. kubelet writes the sum of its grace periods in whole
//! seconds; its own configuration is never read for it.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags};

/// Where kubelet writes it; `/etc` is in memory, so reading cannot hang.
pub const DROP_IN: &str = "/etc/systemd/logind.conf.d/99-kubelet.conf";

/// Longest file that is read, in bytes; kubelet's has about 60.
const FILE_MAX: u64 = 4096;

/// Longer than any node waits; keeps sums of durations from overflowing.
const GRACE_MAX: Duration = Duration::from_hours(24);

/// Reads the file; `None` when there is none, or none that makes sense.
///
/// Opened without waiting: who may write to `/etc` could have put a pipe there.
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

/// The last `InhibitDelayMaxSec=` of section `[Login]`, in whole seconds.
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

/// Whether a configuration of kubelet's asks for a graceful shutdown, as far as its text tells.
///
/// Only to know whether silence is an error; the settings themselves stay kubelet's.
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
    fn kubelet_s_drop_in_is_read() {
        let text = "# Kubelet logind override\n[Login]\nInhibitDelayMaxSec=30\n";
        assert_eq!(parse(text), Some(Duration::from_secs(30)));
    }

    #[test]
    fn what_makes_no_sense_is_no_grace() {
        for text in ["", "InhibitDelayMaxSec=30", "[Login]\nInhibitDelayMaxSec=-1", "[Login]\n"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        let text = "[Login]\nInhibitDelayMaxSec=18446744073709551615\n";
        assert_eq!(parse(text), Some(Duration::from_hours(24)));
    }

    #[test]
    fn only_a_configured_grace_makes_silence_an_error() {
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
        fn any_text_is_read(text in ".{0,200}", seconds in 0_u64..80_000) {
            let _ = (parse(&text), is_configured(&text));
            let text = format!("[Login]\nInhibitDelayMaxSec={seconds}");
            prop_assert_eq!(parse(&text), Some(Duration::from_secs(seconds)));
        }
    }
}
