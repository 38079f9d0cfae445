//! This program in the place of containerd or kubelet, with a fault of its own.
//!
//! A copy in the host's `/run` is mounted over the genuine program, in PID 1's mount namespace. The copy
//! recognises itself by its name and by the file with its role; without that file the program is a trap
//! ([`crate::trap`]). Every image with the probe can be used, and PID 1 is the shipped one.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use kiln_contract::path;

use super::role::Role;
use super::service::FOLDER;
use crate::host;
use crate::node::{self, ROOT};

/// Puts an impostor in the place of a service and kills the genuine program, so that PID 1 starts the
/// impostor.
pub(super) fn install(name: &str, role: &str) -> Result<String> {
    ensure!(Role::parse(role).is_some(), "there is no role {role}");
    let folder = PathBuf::from(format!("{ROOT}{FOLDER}"));
    fs::create_dir_all(&folder).context("cannot create the folder of the impostors")?;
    // The last copy may still run, so this one is a new file.
    let copy = folder.join(name);
    let _ = fs::remove_file(&copy);
    fs::copy("/proc/self/exe", &copy).context("cannot copy this program")?;
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
    fs::write(folder.join(format!("{name}.role")), role).context("cannot write the role")?;
    host::must(&["mount", &format!("{FOLDER}/{name}"), &format!("{}/{name}", path::BIN)])?;
    // The check comes after the mount, because from then on PID 1 starts the impostor.
    if is_impostor(name) == Some(false) {
        node::kill(name)?;
    }
    Ok(format!("{name} is an impostor: {role}\n"))
}

/// Restores the genuine program of a service, and kills the impostor if it runs.
pub(super) fn remove(name: &str) -> Result<String> {
    host::must(&["umount", &format!("{}/{name}", path::BIN)])?;
    if is_impostor(name) == Some(true) {
        node::kill(name)?;
    }
    Ok(format!("{name} is genuine\n"))
}

/// True if the running service is the impostor that was installed last; `None` if the service does not run.
fn is_impostor(name: &str) -> Option<bool> {
    let process = node::find(name).ok()?;
    let running = fs::metadata(format!("/proc/{}/exe", process.pid)).ok()?;
    let copy = fs::metadata(format!("{ROOT}{FOLDER}/{name}")).ok()?;
    Some((running.dev(), running.ino()) == (copy.dev(), copy.ino()))
}
