//! The two stages that mount file systems: before and after the root is in place.

use anyhow::{Context, Result};
use rustix::fs::Mode;
use rustix::mount::MountPropagationFlags;

use super::proof::{Early, Root, Tree};
use crate::console::kmsg;
use crate::kernel::mount::{EARLY, OPT, TREE, apply_all};
use crate::kernel::sysctl;

/// Mounts [`EARLY`] and opens the kernel log.
pub fn early() -> Result<Early> {
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    let mounted = apply_all(&EARLY);
    kmsg::open();
    mounted?;
    sysctl::set_panic_delay();
    sysctl::hurry_rcu();
    quiet_standard_streams();
    Ok(Early(()))
}

/// Mounts [`TREE`] and makes the links that programs expect in `/dev`.
pub fn tree(_: Root) -> Result<Tree> {
    apply_all(&TREE)?;
    for (link, target) in [
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
    ] {
        let _ = std::os::unix::fs::symlink(target, link);
    }
    make_plugin_folder()?;
    Ok(Tree(()))
}

/// Mounts an empty `/opt` in memory.
pub fn make_opt() -> Result<()> {
    OPT.attach(OPT.target, OPT.data)?;
    make_plugin_folder()
}

fn make_plugin_folder() -> Result<()> {
    std::fs::create_dir_all(kiln_contract::path::CNI_BIN_WRITABLE)
        .context("cannot make /opt/cni/bin")
}

/// Makes all mounts shared, so that later mounts reach the containers that ask for them.
///
/// This comes after the last move, because a shared mount cannot be moved, and before containerd.
pub fn share() -> Result<()> {
    let flags = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags).context("cannot make the mounts shared")
}

/// Points descriptors 0 to 2 at `/dev/null`, because a console can block its writer.
fn quiet_standard_streams() {
    use rustix::fs::OFlags;
    let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
    else {
        return;
    };
    let _ = rustix::stdio::dup2_stdin(&null);
    let _ = rustix::stdio::dup2_stdout(&null);
    let _ = rustix::stdio::dup2_stderr(&null);
}
