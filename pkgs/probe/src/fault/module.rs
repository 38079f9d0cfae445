//! Modules: which are loaded, and requests for more, by the host's `modprobe` and by the kernel itself.

use std::fs;

use anyhow::{Context, Result};
use rustix::mount::{FsOpenFlags, fsopen};

use crate::{host, node};

/// Names of the modules that are loaded, sorted.
pub(crate) fn list() -> Result<String> {
    let modules = fs::read_to_string("/proc/modules").context("/proc/modules")?;
    let mut names: Vec<String> =
        modules.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect();
    names.sort();
    Ok(node::text(&names))
}

/// Has the host's `modprobe` load a module, and tells how it ended and what it said.
pub(super) fn probe(name: &str) -> Result<String> {
    let output = host::ask(&["run", "/sbin/modprobe", name])?;
    let said = String::from_utf8_lossy(&output.stderr);
    Ok(format!("{}\n{said}", output.status))
}

/// Asks for a file system by name. The kernel calls `/sbin/modprobe -q -- fs-NAME` for one that it does
/// not know (`get_fs_type()` of fs/filesystems.c).
pub(super) fn file_system(kind: &str) -> String {
    match fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(_) => format!("{kind} is there\n"),
        Err(error) => format!("{kind} is not there: {error}\n"),
    }
}
