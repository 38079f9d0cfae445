//! Health of a pod that has no HTTP server, through one small file.
//!
//! The daemon writes how it is and until when that statement holds ([`Health::state`]); the probe
//! is the same program, executed by kubelet with the argument `health` (liveness) or `ready`
//! (readiness), and compares with the clock ([`probe`]). So a daemon that hangs, and therefore
//! writes nothing, becomes unhealthy by itself. The clock is `CLOCK_BOOTTIME`: it is the same in
//! both processes and does not jump when the time of day is set.
//!
//! ```yaml
//! livenessProbe: { exec: { command: ["/dhcp", "health"] }, periodSeconds: 30 }
//! volumeMounts: [{ name: run, mountPath: /run }]      # volumes: [{ name: run, emptyDir: { medium: Memory } }]
//! ```
//!
//! A file and not a port: a pod on the host's network would open one on the node. An exec probe
//! costs one start of a process in the container, so its period should not be short.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use kiln_base::replace::{self, Durability};
use kiln_base::time;
use rustix::time::ClockId;

use crate::exit::Exit;

/// Where the file is, unless [`VARIABLE`] names another place. The folder must be writable.
pub const FILE: &str = "/run/health";

/// Environment variable that names another file.
pub const VARIABLE: &str = "KILN_HEALTH_FILE";

/// How a daemon is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It works, but what it is there for is not done yet (no lease so far).
    Alive,
    /// It does what it is there for.
    Ready,
}

/// The daemon's side: writes the file.
#[derive(Debug)]
pub struct Health {
    file: PathBuf,
    last: Option<State>,
}

impl Health {
    /// Forgets what an earlier run of the container wrote.
    pub fn new() -> anyhow::Result<Self> {
        Self::at(path())
    }

    fn at(file: PathBuf) -> anyhow::Result<Self> {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", file.display()))
            }
            _ => Ok(Self { file, last: None }),
        }
    }

    /// States how the daemon is, for `holds` from now; call again well before that has passed.
    ///
    /// A file that cannot be written is logged and otherwise left to the probe to notice: a daemon
    /// that works should not end because it cannot say so.
    pub fn state(&mut self, state: State, holds: Duration) {
        if self.last != Some(state) {
            tracing::info!("{}", state.word());
            self.last = Some(state);
        }
        if let Err(error) = self.write(state, boot_time() + holds) {
            tracing::warn!("{error:#}");
        }
    }

    /// Replaces the file, so that a probe never reads half of one.
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

/// The probe's side: `Some` when the only argument is `health` or `ready`.
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
    std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}

/// Whether the file's text says that the daemon is as wanted at `now`.
fn judge(text: &str, wanted: State, now: Duration) -> anyhow::Result<()> {
    let (state, until) = parse(text).with_context(|| format!("not a health file: {text:?}"))?;
    if now > until {
        bail!("{} ended {} ms ago", state.word(), now.saturating_sub(until).as_millis());
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

/// Time since the kernel started, suspension included.
fn boot_time() -> Duration {
    time::now(ClockId::Boottime)
}

#[cfg(test)]
mod tests {
    use super::{Health, State, boot_time, judge, read};
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn a_statement_holds_until_its_end_and_no_longer() {
        let (before, after) = (Duration::from_millis(100), Duration::from_millis(101));
        assert!(judge("ready 100\n", State::Ready, before).is_ok());
        let error = judge("ready 100\n", State::Ready, after).unwrap_err();
        assert_eq!(error.to_string(), "ready ended 1 ms ago");
    }

    #[test]
    fn what_is_ready_is_alive_but_not_the_reverse() {
        assert!(judge("ready 9\n", State::Alive, Duration::ZERO).is_ok());
        assert!(judge("alive 9\n", State::Alive, Duration::ZERO).is_ok());
        assert!(judge("alive 9\n", State::Ready, Duration::ZERO).is_err());
    }

    #[test]
    fn what_is_written_is_what_the_probe_reads() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("health");
        std::fs::write(&file, "ready 99999999999\n").unwrap();
        let mut health = Health::at(file.clone()).unwrap();
        assert!(read(&file).is_err(), "what an earlier run wrote is gone");
        health.state(State::Ready, Duration::from_hours(1));
        assert!(judge(&read(&file).unwrap(), State::Ready, boot_time()).is_ok());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_probe_panic(text: String, now: u32) {
            let _ = judge(&text, State::Ready, Duration::from_millis(now.into()));
        }
    }
}
