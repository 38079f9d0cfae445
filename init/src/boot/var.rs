//! `/var`: on the data partition where there is one, else in memory.
//!
//! All that touches a disk happens in a thread with a deadline.

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

/// How long finding and mounting may take: replaying ext4's journal on a slow disk included.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// A search for the data partition that a thread makes meanwhile.
#[derive(Debug)]
pub struct Search {
    /// Told when the archive's modules are loaded.
    loaded: Receiver<()>,
    /// The partition, if it is mounted at [`MOUNT_POINT`].
    mounted: Receiver<Option<PathBuf>>,
}

/// Begins to look for the data partition, once the archive's modules are loaded.
///
/// Drivers lie in the root, the partition is mounted below `/run`, and a helper that loads drivers
/// needs its control group.
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
    // Nobody waits for it any more.
    let undo = |mounted: Option<PathBuf>| {
        let _ = mounted.map(|_| rustix::mount::unmount(MOUNT_POINT, UnmountFlags::DETACH));
    };
    Ok(Search { loaded, mounted: deadline::begin("data", look, undo)? })
}

impl Search {
    /// Waits until the archive's modules are loaded.
    pub fn wait_for_modules(&self) -> Result<()> {
        deadline::end(&self.loaded, DEADLINE).context("a module of the archive does not load")
    }

    /// Mounts `/var` when the search is over.
    pub fn attach(self, size: &str) -> Result<Var> {
        match deadline::end(&self.mounted, DEADLINE) {
            Some(Some(device)) => {
                rustix::mount::mount_move(MOUNT_POINT, "/var")
                    .context("move the data partition to /var")?;
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
