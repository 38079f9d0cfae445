//! This very program in the place of containerd or kubelet, with a fault of its own.
//!
//! A copy lies in the host's `/run` and is mounted over the genuine program, in PID 1's mount
//! namespace. It is told by the name it is started under and by the file that names its role; where
//! that file is not, the program is a trap ([`crate::trap`]). No image has to be built for it, and
//! PID 1 is the shipped one.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kiln_contract::path;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{flood, storm};
use crate::node::{self, ROOT};

/// Folder of the host's that has the copies and their roles.
pub(super) const FOLDER: &str = "/run/impostor";

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
    fn parse(text: &str) -> Option<Self> {
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

/// Puts an impostor in a service's place, for its next start, and kills the genuine one.
pub(super) fn install(name: &str, role: &str) -> Result<String> {
    ensure!(Role::parse(role).is_some(), "there is no role {role}");
    let folder = PathBuf::from(format!("{ROOT}{FOLDER}"));
    fs::create_dir_all(&folder).context("making the impostors' folder")?;
    // Another file than the last, which may still run.
    let copy = folder.join(name);
    let _ = fs::remove_file(&copy);
    fs::copy("/proc/self/exe", &copy).context("copying this program")?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    fs::write(folder.join(format!("{name}.role")), role).context("writing the role")?;
    on_host(&["mount", &format!("{FOLDER}/{name}"), &format!("{}/{name}", path::BIN)])?;
    // Looked at after the mount: what is started from now on is the impostor.
    if is_impostor(name) == Some(false) {
        node::kill(name)?;
    }
    Ok(format!("{name} is an impostor: {role}\n"))
}

/// Gives a service its genuine program back, and kills the impostor if it runs.
pub(super) fn remove(name: &str) -> Result<String> {
    on_host(&["umount", &format!("{}/{name}", path::BIN)])?;
    if is_impostor(name) == Some(true) {
        node::kill(name)?;
    }
    Ok(format!("{name} is genuine\n"))
}

/// Whether the service that runs is the impostor that was installed last; `None` if none runs.
fn is_impostor(name: &str) -> Option<bool> {
    let process = node::find(name).ok()?;
    let running = fs::metadata(format!("/proc/{}/exe", process.pid)).ok()?;
    let copy = fs::metadata(format!("{ROOT}{FOLDER}/{name}")).ok()?;
    Some((running.dev(), running.ino()) == (copy.dev(), copy.ino()))
}

/// Mounts or unmounts in PID 1's mount namespace.
fn on_host(words: &[&str]) -> Result<()> {
    let output = ask_host(words)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{words:?} on the host: {}: {said}", output.status);
    Ok(())
}

/// Does something in PID 1's mount namespace: in a process of its own, since it stays there.
pub(super) fn ask_host(words: &[&str]) -> Result<Output> {
    #[expect(clippy::disallowed_methods, reason = "the rule is the builder's")]
    let mut child = Command::new("/proc/self/exe");
    child.arg("on-host").args(words).stdin(Stdio::null());
    // Under any other name the program is a trap.
    std::os::unix::process::CommandExt::arg0(&mut child, crate::NAME);
    child.output().context("starting a helper")
}

/// What the helper does.
pub(crate) fn run_on_host(words: &[&str]) -> Result<()> {
    let namespace = fs::File::open("/proc/1/ns/mnt").context("opening PID 1's mounts")?;
    let namespace = std::os::fd::AsFd::as_fd(&namespace);
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount))
        .context("entering PID 1's mounts")?;
    match words {
        ["mount", from, to] => {
            rustix::mount::mount(*from, *to, "", MountFlags::BIND, None).context("mounting")
        }
        ["umount", at] => rustix::mount::unmount(*at, UnmountFlags::DETACH).context("unmounting"),
        ["run", program, ..] => {
            #[expect(clippy::disallowed_methods, reason = "the rule is the builder's")]
            let mut host = Command::new(program);
            host.args(&words[2..]).env_clear();
            Err(std::os::unix::process::CommandExt::exec(&mut host)).context("executing")
        }
        _ => bail!("unknown words {words:?}"),
    }
}

/// The role of a host service of this name, if this process stands in for it.
pub(crate) fn role(name: &str) -> Option<Role> {
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
        Role::Stuck => say(b"READY=1")?,
        Role::Patient => patient()?,
        Role::Garbled => garbled()?,
        Role::Flood => flood::write()?,
        Role::Storm => {
            say(b"READY=1")?;
            storm::raise()?;
        }
    }
    loop {
        thread::sleep(Duration::MAX);
    }
}

/// One datagram to PID 1's notify socket.
pub(super) fn say(message: &[u8]) -> Result<()> {
    let socket = UnixDatagram::unbound().context("making a socket")?;
    socket.send_to(message, path::NOTIFY_SOCKET).context("telling PID 1").map(drop)
}

fn deaf() -> Result<()> {
    let _ = fs::remove_file(path::CONTAINERD_SOCKET);
    fs::create_dir_all(Path::new(path::CONTAINERD_SOCKET).parent().context("no folder")?)?;
    let listener = UnixListener::bind(path::CONTAINERD_SOCKET).context("listening")?;
    say(b"READY=1")?;
    let mut taken = Vec::new();
    for stream in listener.incoming() {
        taken.push(stream.context("accepting")?);
    }
    Ok(())
}

fn patient() -> Result<()> {
    let micros = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
    let pause = micros.map_or(FEED, |micros: u64| Duration::from_micros(micros / 2));
    say(b"READY=1")?;
    loop {
        thread::sleep(pause);
        say(b"WATCHDOG=1")?;
    }
}

fn garbled() -> Result<()> {
    say(b"READY=1")?;
    for message in super::talk::messages() {
        // Too long ones are refused by the kernel.
        let _ = say(&message);
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
