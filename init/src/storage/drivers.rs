//! Drivers of disks, loaded by the helper `kiln-disks`.

use std::time::Duration;

use anyhow::{Result, bail};

use super::controllers::{controllers, has_optical_drive, has_scsi_host};
use crate::console::kmsg;
use crate::modules::index::{Found, Index};
use crate::modules::load;
use crate::process::helper::Helper;

/// The time limit for drivers, so that a hanging driver does not hide a disk that works.
pub const DEADLINE: Duration = Duration::from_secs(15);

/// Loads the drivers in a helper, because the index of modules would stay in PID 1's heap.
pub fn load_in_helper() -> Result<()> {
    let (child, _) = Helper::Disks.start(&[])?;
    match child.wait(DEADLINE) {
        Some(0) => Ok(()),
        Some(status) => bail!("cannot load drivers of disks: exit status {status}"),
        None => bail!("drivers of disks did not start in {} s", DEADLINE.as_secs()),
    }
}

/// Runs the helper.
#[must_use]
pub fn run() -> i32 {
    kmsg::open();
    i32::from(kmsg::warn_on_error(load_all()).is_none())
}

fn load_all() -> Result<()> {
    let index = Index::of_running_kernel()?;
    for alias in controllers() {
        if let Found::Load(files) = index.find(&alias) {
            for module in files {
                let _ = kmsg::warn_on_error(load::load_file(&module.file, ""));
            }
        }
    }
    // Disks and optical drives behind SCSI controllers (virtio-scsi, AHCI) need these, but their
    // aliases appear too late.
    for (name, needed) in [("sd_mod", has_scsi_host()), ("sr_mod", has_optical_drive())] {
        if let Found::Load(files) = index.find(name)
            && needed
        {
            for module in files {
                let _ = kmsg::warn_on_error(load::load_file(&module.file, ""));
            }
        }
    }
    Ok(())
}
