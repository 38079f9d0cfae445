//! Gathers the credentials, and mounts `/var`: the data partition if there is one, else a tmpfs.
//!
//! A thread with a deadline does all that touches a disk.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::mount::UnmountFlags;

use super::archive::Loading;
use super::credentials::{self, Gathered};
use super::fill;
use super::proof::{Groups, Tree};
use crate::console::kmsg;
use crate::machine::credential::Credentials;
use crate::process::deadline;
use crate::storage::data::{MOUNT_POINT, bring_up_disks, find_and_mount};
use crate::storage::var::Var;

/// The time limit for finding and mounting the partition, replaying ext4's journal on a slow disk
/// included.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A search for credentials and for the data partition that runs in a thread.
#[derive(Debug)]
pub struct Search {
    /// Receives a message when the archive's modules are loaded.
    loaded: Receiver<()>,
    /// Receives the settings that need no disk.
    early: Receiver<Gathered>,
    /// Receives the settings, if a disk changed them, and the partition, if it is mounted at
    /// [`MOUNT_POINT`].
    found: Receiver<(Gathered, Option<PathBuf>)>,
}

/// Starts the search. It begins when the archive's modules are loaded.
///
/// The proofs are needed because drivers are in the root, the partition is mounted below `/run`,
/// and the helper that loads drivers runs in a control group.
pub fn search(
    _: &Tree,
    _: &Groups,
    modules: Loading,
    mut credentials: Credentials,
) -> Result<Search> {
    let (told, loaded) = mpsc::sync_channel(1);
    let (told_early, early) = mpsc::sync_channel(1);
    let look = move || {
        modules.join();
        let _ = told.send(());
        let gathered = credentials::gather(&mut credentials);
        let _ = told_early.send(gathered.clone());
        if !bring_up_disks() {
            return (gathered, None);
        }
        let gathered = credentials::gather_from_disk(credentials, gathered);
        let mounted = find_and_mount(&gathered.settings.data).unwrap_or_else(|error| {
            kmsg::warn(format_args!("data partition: {error:#}; /var is in memory"));
            None
        });
        (gathered, mounted)
    };
    // Called if the boot has stopped waiting.
    let undo = |(_, mounted): (Gathered, Option<PathBuf>)| {
        let _ = mounted.map(|_| rustix::mount::unmount(MOUNT_POINT, UnmountFlags::DETACH));
    };
    Ok(Search { loaded, early, found: deadline::begin("data", look, undo)? })
}

impl Search {
    /// Waits until the archive's modules are loaded.
    pub fn wait_for_modules(&self) -> Result<()> {
        deadline::end(&self.loaded, DEADLINE).context("the archive's modules do not load")
    }

    /// Waits for the end of the search and mounts `/var`.
    pub fn attach(self, size: &str) -> Result<(Var, Gathered)> {
        let (mut gathered, device) = deadline::end(&self.found, DEADLINE).unwrap_or_else(|| {
            kmsg::warn("data partition: disks do not answer; /var is in memory");
            (self.early.try_recv().unwrap_or_default(), None)
        });
        gathered.keep();
        if let Some(device) = device {
            rustix::mount::mount_move(MOUNT_POINT, "/var")
                .context("cannot move the data partition to /var")?;
            kmsg::notice(format_args!("/var is on {}", device.display()));
            return Ok((Var::Partition, gathered));
        }
        fill::mount_memory(size)?;
        Ok((Var::Memory, gathered))
    }
}
