//! Control groups (Documentation/admin-guide/cgroup-v2.rst): their processes and files.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Context, Result};
use kiln_contract::cgroup::MOUNT;
use rustix::fs::{Mode, OFlags};

use crate::console::kmsg;

/// Returns a group's folder in the cgroup file system.
#[must_use]
pub fn path(group: &str) -> PathBuf {
    PathBuf::from(format!("{MOUNT}{group}"))
}

/// Opens a group's folder, so that children can be started in the group.
pub fn open(group: &str) -> Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::open(path(group), flags, Mode::empty())
        .with_context(|| format!("cannot open group {group}"))
}

/// True if the group and all groups below it hold no process. A missing group is empty.
#[must_use]
pub fn is_empty(group: &str) -> bool {
    fs::read_to_string(path(group).join("cgroup.events"))
        .map_or(true, |events| events.lines().any(|line| line == "populated 0"))
}

/// Kills every process of a group and of all groups below it.
pub fn kill(group: &str) {
    if path(group).exists() {
        let _ = kmsg::warn_on_error(write(group, "cgroup.kill", "1"));
    }
}

/// Returns the processes of a group and of all groups below it.
#[must_use]
pub fn processes(group: &str) -> Vec<i32> {
    let mut pids = Vec::new();
    let mut folders = vec![path(group)];
    while let Some(folder) = folders.pop() {
        let procs = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        pids.extend(procs.lines().filter_map(|line| line.parse::<i32>().ok()));
        let children = fs::read_dir(&folder).into_iter().flatten().flatten();
        let children = children.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.extend(children.map(|entry| entry.path()));
    }
    pids
}

/// Writes a value to one of a group's files.
pub fn write(group: &str, file: &str, value: &str) -> Result<()> {
    let file = path(group).join(file);
    fs::write(&file, value).with_context(|| format!("cannot write {value} to {}", file.display()))
}
