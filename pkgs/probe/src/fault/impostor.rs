//! This very program in the place of containerd or kubelet, with a fault of its own.
//!
//! A copy lies in the host's `/run` and is mounted over the genuine program, in PID 1's mount
//! namespace. It is told by the name it is started under and by the file that names its role; where
//! that file is not, the program is a trap ([`crate::trap`]). No image has to be built for it, and
//! PID 1 is the shipped one.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use kiln_contract::path;

use super::role::Role;
use super::service::FOLDER;
use crate::host;
use crate::node::{self, ROOT};

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
    host::must(&["mount", &format!("{FOLDER}/{name}"), &format!("{}/{name}", path::BIN)])?;
    // Looked at after the mount: what is started from now on is the impostor.
    if is_impostor(name) == Some(false) {
        node::kill(name)?;
    }
    Ok(format!("{name} is an impostor: {role}\n"))
}

/// Gives a service its genuine program back, and kills the impostor if it runs.
pub(super) fn remove(name: &str) -> Result<String> {
    host::must(&["umount", &format!("{}/{name}", path::BIN)])?;
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
