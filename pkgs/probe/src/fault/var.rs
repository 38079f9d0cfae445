//! Faults of `/var`: what a stranger who can write there leaves for the next boot.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{CWD, FallocateFlags, FileType, Mode, fallocate, mknodat};
use rustix::io::Errno;

use crate::node::ROOT;

/// The file that takes all blocks, among the files that PID 1 removes from a full partition.
const FILL_STORE: &str = "/var/lib/containerd/fill";

/// The folder with one file for each inode.
const FILL_INODES: &str = "/var/inodes";

/// The target of all planted links. kubelet would start the pod in it.
const OUTSIDE: &str = "/etc/kubernetes/manifests/planted.yaml";

/// Names that PID 1 or its helpers open, write, replace or rename at a boot or a shutdown.
const LINKS: [&str; 13] = [
    "cache",
    "lib/kiln/cluster.toml",
    "lib/kiln/cure-reboots",
    "lib/kiln/last-shutdown",
    "lib/kiln/seed",
    "lib/kubelet/seccomp/kiln",
    "log/.boots.new",
    "log/boots",
    "log/boots.new",
    "log/containerd.log",
    "log/containerd.log.1",
    "log/crash",
    "log/kubelet.log",
];

const FIFOS: [&str; 5] = [
    "lib/kubelet/.config.yaml.new",
    "lib/kubelet/config.yaml",
    "lib/kubelet/config.yaml.new",
    "log/init.log",
    "spool",
];

const FOLDERS: [&str; 2] = ["log/kernel.log", "run"];

/// Takes all blocks, including those reserved for root.
pub(super) fn fill_store() -> Result<String> {
    let file = File::create(format!("{ROOT}{FILL_STORE}")).context("cannot create a file")?;
    let (mut at, mut step) = (0, 1 << 30);
    while step >= 4096 {
        match fallocate(&file, FallocateFlags::empty(), at, step) {
            Ok(()) => at += step,
            Err(Errno::NOSPC) => step /= 2,
            Err(error) => return Err(error).context("cannot fill /var"),
        }
    }
    rustix::fs::sync();
    Ok(format!("filled {} MiB\n", at >> 20))
}

/// Takes all inodes.
pub(super) fn fill_inodes() -> Result<String> {
    let folder = format!("{ROOT}{FILL_INODES}");
    fs::create_dir(&folder).context("cannot make a folder")?;
    for number in 0_u32.. {
        match File::create_new(format!("{folder}/{number}")) {
            Err(error) if error.kind() == ErrorKind::StorageFull => {
                rustix::fs::sync();
                return Ok(format!("filled {number} inodes\n"));
            }
            made => drop(made.context("cannot make a file")?),
        }
    }
    Ok(String::new())
}

/// Replaces the names that PID 1 uses by entries of other types.
pub(super) fn plant() -> Result<String> {
    let path = |name: &str| format!("{ROOT}/var/{name}");
    let names = LINKS.iter().chain(&FIFOS).chain(&FOLDERS);
    for path in names.map(|name| path(name)) {
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        if let Some(parent) = Path::new(&path).parent() {
            fs::create_dir_all(parent).with_context(|| path.clone())?;
        }
    }
    for name in LINKS {
        symlink(OUTSIDE, path(name)).context(name)?;
    }
    for name in FIFOS {
        mknodat(CWD, path(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).context(name)?;
    }
    for name in FOLDERS {
        fs::create_dir(path(name)).context(name)?;
        fs::write(path(name) + "/data", "a user's").context(name)?;
    }
    rustix::fs::sync();
    Ok(format!("planted {} entries\n", LINKS.len() + FIFOS.len() + FOLDERS.len()))
}

/// Lists the types of the planted names, and what was written through the links.
pub(super) fn planted() -> String {
    let mut out = String::new();
    for name in LINKS.iter().chain(&FIFOS).chain(&FOLDERS) {
        let kind = match fs::symlink_metadata(format!("{ROOT}/var/{name}")) {
            Ok(found) if found.is_symlink() => "link",
            Ok(found) if found.is_dir() => "folder",
            Ok(found) if found.file_type().is_fifo() => "FIFO",
            Ok(_) => "file",
            Err(_) => "missing",
        };
        out.extend([*name, " ", kind, "\n"]);
    }
    let outside = fs::symlink_metadata(format!("{ROOT}{OUTSIDE}"));
    out += if outside.is_ok() { "written outside\n" } else { "nothing was written outside\n" };
    out
}
