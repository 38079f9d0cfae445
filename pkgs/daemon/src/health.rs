//! The health of a pod that has no HTTP server, reported through one small file.
//!
//! The daemon writes its state and the time until which the state is valid ([`Health::state`]). The
//! probe is the same program, which kubelet executes with the argument `health` (liveness) or `ready`
//! (readiness) and which compares the file with the clock ([`probe`]). A daemon that hangs writes
//! nothing, so its state expires and it becomes unhealthy. The clock is `CLOCK_BOOTTIME`, because
//! it is the same in both processes and does not jump when the time of day is set.
//!
//! ```yaml
//! livenessProbe: { exec: { command: ["/dhcp", "health"] }, periodSeconds: 30 }
//! volumeMounts: [{ name: run, mountPath: /run }]      # volumes: [{ name: run, emptyDir: { medium: Memory } }]
//! ```
//!
//! The state is not reported through a port, because these pods use the host's network, where the port
//! would be open to others. An exec probe starts a process in the container each time, so its period
//! should not be short.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use kiln_base::replace::{self, Durability};
use kiln_base::time;
use rustix::time::ClockId;

use crate::exit::Exit;

/// The default path of the file. Its folder must be writable.
pub const FILE: &str = "/run/health";

/// Environment variable that overrides [`FILE`].
pub const VARIABLE: &str = "KILN_HEALTH_FILE";

/// The state of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The daemon runs, but has not reached its goal yet (such as a lease).
    Alive,
    /// The daemon has reached its goal.
    Ready,
}

/// The daemon's side: writes the file.
#[derive(Debug)]
pub struct Health {
    file: PathBuf,
    last: Option<State>,
}

impl Health {
    /// Removes the file of an earlier run of the container, so that there is no state yet.
    pub fn new() -> anyhow::Result<Self> {
        Self::at(path())
    }

    fn at(file: PathBuf) -> anyhow::Result<Self> {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", file.display()))
            }
            _ => Ok(Self { file, last: None }),
        }
    }

    /// Reports a state that is valid for `validity` from now; must be called again well before it
    /// expires.
    ///
    /// If the file cannot be written, the error is only logged, because it is no reason to stop a working
    /// daemon. The probe then finds the expired state.
    pub fn state(&mut self, state: State, validity: Duration) {
        if self.last != Some(state) {
            tracing::info!("{}", state.word());
            self.last = Some(state);
        }
        if let Err(error) = self.write(state, boot_time() + validity) {
            tracing::warn!("{error:#}");
        }
    }

    /// Replaces the file, so that a probe never reads a half-written state.
    fn write(&self, state: State, until: Duration) -> anyhow::Result<()> {
        let text = format!("{} {}\n", state.word(), until.as_millis());
        replace::write(&self.file, text.as_bytes(), 0o644, Durability::None)
            .with_context(|| format!("cannot write {}", self.file.display()))
    }
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Ready => "ready",
        }
    }
}

/// Runs the probe if the only argument is `health` or `ready`; otherwise returns `None`.
#[must_use]
pub fn probe(args: &[OsString]) -> Option<anyhow::Result<()>> {
    let wanted = match args {
        [only] if only == "health" => State::Alive,
        [only] if only == "ready" => State::Ready,
        _ => return None,
    };
    Some(read(&path()).and_then(|text| judge(&text, wanted, boot_time())).context(Exit::TempFail))
}

fn read(file: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Checks that the file's text reports the wanted state and that the state is valid at `now`.
fn judge(text: &str, wanted: State, now: Duration) -> anyhow::Result<()> {
    let (state, until) =
        parse(text).with_context(|| format!("{text:?} is not the text of a health file"))?;
    if now > until {
        bail!(
            "the state {} expired {} ms ago",
            state.word(),
            now.saturating_sub(until).as_millis()
        );
    }
    if (wanted, state) == (State::Ready, State::Alive) {
        bail!("alive, but not ready");
    }
    Ok(())
}

fn parse(text: &str) -> Option<(State, Duration)> {
    let (word, millis) = text.strip_suffix('\n')?.split_once(' ')?;
    let state = [State::Alive, State::Ready].into_iter().find(|state| state.word() == word)?;
    Some((state, Duration::from_millis(millis.parse().ok()?)))
}

fn path() -> PathBuf {
    std::env::var_os(VARIABLE).map_or_else(|| FILE.into(), PathBuf::from)
}

/// Returns the time since the kernel started, including time in suspend.
fn boot_time() -> Duration {
    time::now(ClockId::Boottime)
}

#[cfg(test)]
mod tests {
    use super::{Health, State, boot_time, judge, read};
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn a_state_is_valid_until_it_expires() {
        let (before, after) = (Duration::from_millis(100), Duration::from_millis(101));
        assert!(judge("ready 100\n", State::Ready, before).is_ok());
        let error = judge("ready 100\n", State::Ready, after).unwrap_err();
        assert_eq!(error.to_string(), "the state ready expired 1 ms ago");
    }

    #[test]
    fn a_ready_daemon_is_alive_but_a_daemon_that_is_only_alive_is_not_ready() {
        assert!(judge("ready 9\n", State::Alive, Duration::ZERO).is_ok());
        assert!(judge("alive 9\n", State::Alive, Duration::ZERO).is_ok());
        assert!(judge("alive 9\n", State::Ready, Duration::ZERO).is_err());
    }

    #[test]
    fn the_probe_reads_the_state_that_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("health");
        std::fs::write(&file, "ready 99999999999\n").unwrap();
        let mut health = Health::at(file.clone()).unwrap();
        assert!(read(&file).is_err(), "the file of an earlier run is removed");
        health.state(State::Ready, Duration::from_hours(1));
        assert!(judge(&read(&file).unwrap(), State::Ready, boot_time()).is_ok());
    }

    proptest! {
        #[test]
        fn a_written_state_holds_exactly_until_it_expires(until: u32, now: u32) {
            let (until, now) = (Duration::from_millis(until.into()), Duration::from_millis(now.into()));
            let text = format!("ready {}\n", until.as_millis());
            prop_assert_eq!(judge(&text, State::Ready, now).is_ok(), now <= until);
        }

        #[test]
        fn any_other_text_is_an_error(text in "(ready|alive|[a-z]{0,3})?[ -~]{0,12}\n?") {
            let valid = text.strip_suffix('\n').and_then(|line| line.split_once(' ')).is_some_and(
                |(word, millis)| ["ready", "alive"].contains(&word) && millis.parse::<u64>().is_ok(),
            );
            prop_assert!(valid || judge(&text, State::Alive, Duration::ZERO).is_err());
        }
    }
}
