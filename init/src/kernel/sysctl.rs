//! Applies the kernel settings of [`kiln_contract::sysctl`].
//!
//! They are applied before kubelet starts, because with `protectKernelDefaults` it refuses to run
//! with other values. Settings that exist only after a module is loaded are applied by
//! `kiln-coldplug`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kiln_contract::sysctl::TABLE;
pub use kiln_contract::sysctl::When;

use crate::console::kmsg;

/// Makes a kernel panic reboot the machine. This comes first, because otherwise the death of PID 1
/// would halt the machine forever.
pub fn set_panic_delay() {
    let _ = fs::write("/proc/sys/kernel/panic", "10");
}

/// The kernel's switch for short RCU grace periods (Documentation/ABI,
/// `/sys/kernel/rcu_expedited`).
const RCU_EXPEDITED: &str = "/sys/kernel/rcu_expedited";

/// The longest time of short grace periods from the start of the services. kubelet can wait an hour
/// for its certificate and starts static pods before that.
pub const HURRY: Duration = Duration::from_mins(1);

/// Makes RCU grace periods short during the boot, at the cost of more interrupts.
///
/// Mounts, control groups, modules and network namespaces wait for many of them in sequence.
pub fn hurry_rcu() {
    let _ = fs::write(RCU_EXPEDITED, "1");
}

/// Short grace periods that end once.
#[derive(Debug)]
pub struct Hurry {
    switch: PathBuf,
    until: Option<Instant>,
}

impl Hurry {
    /// Continues [`hurry_rcu`] for [`HURRY`].
    #[must_use]
    pub fn begin(now: Instant) -> Self {
        Self { switch: RCU_EXPEDITED.into(), until: Some(now + HURRY) }
    }

    /// Ends it, so that interrupts do not slow down running pods.
    pub fn end(&mut self) {
        if self.until.take().is_some() {
            let _ = fs::write(&self.switch, "0");
        }
    }

    /// Ends it if its time is over.
    pub fn expire(&mut self, now: Instant) {
        if self.until.is_some_and(|until| until <= now) {
            self.end();
        }
    }

    /// Returns the time of its end.
    #[must_use]
    pub const fn due(&self) -> Option<Instant> {
        self.until
    }
}

/// Applies all settings of one kind. A missing file is a warning for [`When::Boot`] and ignored for
/// [`When::Offered`].
pub fn apply(when: When) {
    for (name, value, _) in TABLE.iter().filter(|line| line.2 == when) {
        let file = Path::new("/proc/sys").join(name);
        if when == When::Offered && !file.exists() {
            continue;
        }
        set(&file, name, value);
    }
}

/// Applies the owner's settings that exist: name below `/proc/sys`, and value. Returns the names of
/// those that are missing, because their module may be loaded later.
#[must_use]
pub fn apply_own(settings: &[(String, String)]) -> Vec<&str> {
    let mut missing = Vec::new();
    for (name, value) in settings {
        let file = Path::new("/proc/sys").join(name);
        if file.exists() {
            set(&file, name, value);
        } else {
            missing.push(name.as_str());
        }
    }
    missing
}

fn set(file: &Path, name: &str, value: &str) {
    // The newline makes a write of the empty value too.
    if let Err(error) = fs::write(file, format!("{value}\n")) {
        kmsg::warn(format_args!("cannot set sysctl {name} to {value:?}: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(end: impl Fn(&mut Hurry, Instant)) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "1").unwrap();
        let now = Instant::now();
        let mut hurry = Hurry { switch: file.path().into(), ..Hurry::begin(now) };
        end(&mut hurry, now);
        fs::read_to_string(file.path()).unwrap()
    }

    #[test]
    fn short_grace_periods_end_even_if_kubelet_is_never_ready() {
        assert_eq!(check(|hurry, now| hurry.expire(now + HURRY / 2)), "1");
        assert_eq!(check(|hurry, now| hurry.expire(now + HURRY)), "0");
        assert_eq!(check(|hurry, _| hurry.end()), "0");
    }

    #[test]
    fn short_grace_periods_end_once() {
        // A later change by a pod stays.
        let kept = check(|hurry, now| {
            assert_eq!(hurry.due(), Some(now + HURRY));
            hurry.end();
            fs::write(&hurry.switch, "1").unwrap();
            hurry.end();
            hurry.expire(now + 2 * HURRY);
            assert_eq!(hurry.due(), None);
        });
        assert_eq!(kept, "1");
    }
}
