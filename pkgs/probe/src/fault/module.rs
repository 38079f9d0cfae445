//! The loaded kernel modules, and requests for more by the host's `modprobe` and by the kernel.

use std::fs;

use anyhow::{Context, Result};
use rustix::mount::{FsOpenFlags, fsopen};

use crate::{host, node};

/// Lists the names of the loaded modules, sorted.
pub(crate) fn list() -> Result<String> {
    let modules = fs::read_to_string("/proc/modules").context("cannot read /proc/modules")?;
    let mut names: Vec<String> =
        modules.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect();
    names.sort();
    Ok(node::text(&names))
}

/// Has the host's `modprobe` load a module, and returns its exit status and its messages.
pub(super) fn probe(name: &str) -> Result<String> {
    let output = host::ask(&["run", "/sbin/modprobe", name])?;
    let said = String::from_utf8_lossy(&output.stderr);
    Ok(format!("{}\n{said}", output.status))
}

/// Requests a file system by name. The kernel executes `/sbin/modprobe -q -- fs-NAME` for an unknown one
/// (`get_fs_type()` of fs/filesystems.c).
pub(super) fn file_system(kind: &str) -> String {
    match fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(_) => format!("{kind} is available\n"),
        Err(error) => format!("{kind} is missing: {error}\n"),
    }
}
