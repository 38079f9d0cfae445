//! The roles of an impostor: each is one way in which a service of PID 1's goes wrong.

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

/// How often a patient service says that it lives, if nobody has told it.
const FEED: Duration = Duration::from_secs(5);

/// What an impostor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Ends at once.
    Exit,
    /// Lives, and never says that it is ready.
    Mute,
    /// Says that it is ready, takes connections on containerd's socket, and never answers.
    Deaf,
    /// Says that it is ready and never that it lives.
    Stuck,
    /// Says that it is ready and that it lives, and does nothing: a kubelet whose API server is absent.
    Patient,
    /// Says that it is ready, then half messages, unknown ones and too long ones.
    Garbled,
    /// Writes its log as fast as it is taken.
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

/// The role of a host service of this name, if this process stands in for it.
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
    fs::create_dir_all(Path::new(path::CONTAINERD_SOCKET).parent().context("no folder")?)?;
    let listener = UnixListener::bind(path::CONTAINERD_SOCKET).context("listening")?;
    notify(b"READY=1")?;
    let mut taken = Vec::new();
    for stream in listener.incoming() {
        taken.push(stream.context("accepting")?);
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
        // Too long ones are refused by the kernel.
        let _ = notify(&message);
    }
    patient()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_is_one_of_the_known_words() {
        assert_eq!(Role::parse("exit\n"), Some(Role::Exit));
        assert_eq!(Role::parse("storm"), Some(Role::Storm));
        assert_eq!(Role::parse(""), None);
        assert_eq!(Role::parse("exit mute"), None);
    }
}
