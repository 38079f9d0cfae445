//! The roles of an impostor: each is one way in which a service of PID 1 goes wrong.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use kiln_contract::path;

use super::service::{FOLDER, notify};
use super::{flood, storm, talk};

/// The interval at which a patient service feeds its watchdog, if `WATCHDOG_USEC` is not set.
const FEED: Duration = Duration::from_secs(5);

/// The behaviour of an impostor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Exits at once.
    Exit,
    /// Runs, and never reports that it is ready.
    Mute,
    /// Reports that it is ready, accepts connections on containerd's socket, and never answers.
    Deaf,
    /// Reports that it is ready, and never feeds its watchdog.
    Stuck,
    /// Reports that it is ready, feeds its watchdog and does nothing else, like a kubelet whose API server
    /// is absent.
    Patient,
    /// Reports that it is ready, then sends invalid messages.
    Garbled,
    /// Writes its log as fast as PID 1 takes it.
    Flood,
    /// Leaves ten thousand orphans behind.
    Storm,
}

impl Role {
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text.trim() {
            "exit" => Self::Exit,
            "mute" => Self::Mute,
            "deaf" => Self::Deaf,
            "stuck" => Self::Stuck,
            "patient" => Self::Patient,
            "garbled" => Self::Garbled,
            "flood" => Self::Flood,
            "storm" => Self::Storm,
            _ => return None,
        })
    }
}

/// Returns the role of an impostor with this name, if there is one.
pub(crate) fn of(name: &str) -> Option<Role> {
    Role::parse(&fs::read_to_string(format!("{FOLDER}/{name}.role")).ok()?)
}

/// Plays a role until it is killed.
pub(crate) fn play(role: Role) -> ExitCode {
    match act(role) {
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("impostor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(role: Role) -> Result<()> {
    match role {
        Role::Exit => return Ok(()),
        Role::Mute => {}
        Role::Deaf => deaf()?,
        Role::Stuck => notify(b"READY=1")?,
        Role::Patient => patient()?,
        Role::Garbled => garbled()?,
        Role::Flood => flood::write()?,
        Role::Storm => {
            notify(b"READY=1")?;
            storm::raise()?;
        }
    }
    loop {
        thread::sleep(Duration::MAX);
    }
}

fn deaf() -> Result<()> {
    let _ = fs::remove_file(path::CONTAINERD_SOCKET);
    fs::create_dir_all(
        Path::new(path::CONTAINERD_SOCKET).parent().context("the socket's path has no folder")?,
    )?;
    let listener = UnixListener::bind(path::CONTAINERD_SOCKET)
        .context("cannot listen on containerd's socket")?;
    notify(b"READY=1")?;
    let mut taken = Vec::new();
    for stream in listener.incoming() {
        taken.push(stream.context("cannot accept a connection")?);
    }
    Ok(())
}

fn patient() -> Result<()> {
    let micros = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
    let pause = micros.map_or(FEED, |micros: u64| Duration::from_micros(micros / 2));
    notify(b"READY=1")?;
    loop {
        thread::sleep(pause);
        notify(b"WATCHDOG=1")?;
    }
}

fn garbled() -> Result<()> {
    notify(b"READY=1")?;
    for message in talk::messages() {
        // The kernel refuses messages that are too long.
        let _ = notify(&message);
    }
    patient()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_words_are_roles() {
        assert_eq!(Role::parse("exit\n"), Some(Role::Exit));
        assert_eq!(Role::parse("storm"), Some(Role::Storm));
        assert_eq!(Role::parse(""), None);
        assert_eq!(Role::parse("exit mute"), None);
    }
}
