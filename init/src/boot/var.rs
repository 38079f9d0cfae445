//! Mounts `/var`: the data partition if there is one, else a tmpfs.
//!
//! A thread with a deadline does all that touches a disk.

use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::mount::UnmountFlags;

use super::archive::Loading;
use super::proof::{Groups, Tree};
use crate::console::kmsg;
use crate::kernel::mount;
use crate::process::deadline;
use crate::storage::data::{MOUNT_POINT, find_and_mount};
use crate::storage::var::Var;

/// The time limit for finding and mounting the partition, replaying ext4's journal on a slow disk
/// included.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A search for the data partition that runs in a thread.
#[derive(Debug)]
pub struct Search {
    /// Receives a message when the archive's modules are loaded.
    loaded: Receiver<()>,
    /// The partition, if it is mounted at [`MOUNT_POINT`].
    mounted: Receiver<Option<PathBuf>>,
}

/// Starts the search. It begins when the archive's modules are loaded.
///
/// The proofs are needed because drivers are in the root, the partition is mounted below `/run`,
/// and the helper that loads drivers runs in a control group.
pub fn search(_: &Tree, _: &Groups, modules: Loading) -> Result<Search> {
    let (told, loaded) = mpsc::sync_channel(1);
    let look = move || {
        modules.join();
        let _ = told.send(());
        find_and_mount().unwrap_or_else(|error| {
            kmsg::warn(format_args!("data partition: {error:#}; /var is in memory"));
            None
        })
    };
    // Called if the boot has stopped waiting.
    let undo = |mounted: Option<PathBuf>| {
        let _ = mounted.map(|_| rustix::mount::unmount(MOUNT_POINT, UnmountFlags::DETACH));
    };
    Ok(Search { loaded, mounted: deadline::begin("data", look, undo)? })
}

impl Search {
    /// Waits until the archive's modules are loaded.
    pub fn wait_for_modules(&self) -> Result<()> {
        deadline::end(&self.loaded, DEADLINE).context("the archive's modules do not load")
    }

    /// Waits for the end of the search and mounts `/var`.
    pub fn attach(self, size: &str) -> Result<Var> {
        match deadline::end(&self.mounted, DEADLINE) {
            Some(Some(device)) => {
                rustix::mount::mount_move(MOUNT_POINT, "/var")
                    .context("cannot move the data partition to /var")?;
                kmsg::notice(format_args!("/var is on {}", device.display()));
                return Ok(Var::Partition);
            }
            Some(None) => {}
            None => kmsg::warn("data partition: disks do not answer; /var is in memory"),
        }
        mount::tmpfs("/var", "").attach("/var", &format!("mode=0755,size={size}"))?;
        Ok(Var::Memory)
    }
}
