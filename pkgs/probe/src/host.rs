//! Work in PID 1's mount namespace, where the host's programs are.
//!
//! A helper process does it, because a process cannot leave the namespace again.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::own;

/// Runs `mount FROM TO`, `umount AT` or `run PROGRAM ARGUMENT…` on the host; an error unless it succeeds.
pub(crate) fn must(words: &[&str]) -> Result<()> {
    let output = ask(words)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{words:?} on the host: {}: {said}", output.status);
    Ok(())
}

/// Runs the same and returns its output, even if it fails.
pub(crate) fn ask(words: &[&str]) -> Result<Output> {
    let words = [&["on-host"], words].concat();
    own::command(&words).output().context("cannot start a helper")
}

/// The work of the helper process.
pub(crate) fn run(words: &[&str]) -> Result<()> {
    let namespace = fs::File::open("/proc/1/ns/mnt").context("cannot open PID 1's mounts")?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
        .context("cannot enter PID 1's mounts")?;
    match words {
        ["mount", from, to] => rustix::mount::mount(*from, *to, "", MountFlags::BIND, None)
            .with_context(|| format!("cannot mount {from} on {to}")),
        ["umount", at] => rustix::mount::unmount(*at, UnmountFlags::DETACH)
            .with_context(|| format!("cannot unmount {at}")),
        ["run", program, ..] => {
            #[expect(clippy::disallowed_methods, reason = "the rule is the builder's")]
            let mut host = Command::new(program);
            let error = host.args(&words[2..]).env_clear().exec();
            Err(error).with_context(|| format!("cannot execute {program}"))
        }
        _ => bail!("unknown words {words:?}"),
    }
}
