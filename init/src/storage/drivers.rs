//! Drivers of disks, loaded by the helper `kiln-disks`.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::controllers::{
    SETTLE, controllers, has_hyper_v, has_optical_drive, has_scsi_host, hyper_v_has_disks,
};
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
    for alias in &controllers() {
        load_found(&index, alias);
    }
    if wait_for_hyper_v() {
        for alias in &controllers() {
            load_found(&index, alias);
        }
    }
    // Disks and optical drives behind SCSI controllers (virtio-scsi, AHCI) need these, but their
    // aliases appear too late.
    for (name, needed) in [("sd_mod", has_scsi_host()), ("sr_mod", has_optical_drive())] {
        if needed {
            load_found(&index, name);
        }
    }
    Ok(())
}

fn load_found(index: &Index, name: &str) {
    if let Found::Load(files) = index.find(name) {
        for module in files {
            let _ = kmsg::warn_on_error(load::load_file(&module.file, ""));
        }
    }
}

/// Waits until Hyper-V's bus, whose driver was just loaded, shows a device with disks. Returns false
/// if there is no such bus.
fn wait_for_hyper_v() -> bool {
    let begin = Instant::now();
    while has_hyper_v() {
        if hyper_v_has_disks() || begin.elapsed() >= SETTLE {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}
