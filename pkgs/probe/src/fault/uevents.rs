//! A day of the kernel's messages about devices within seconds.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};

/// Announces every device of every bus in turn, until `count` messages were sent
/// (Documentation/ABI/testing/sysfs-uevent). Each message has a modalias, as when the device was added.
pub(super) fn send(count: u32) -> Result<String> {
    let devices = devices();
    ensure!(!devices.is_empty(), "there is no device to announce");
    let mut sent: u32 = 0;
    for device in devices.iter().cycle().take(count as usize) {
        // Some devices refuse the write.
        sent += u32::from(fs::write(device, "change").is_ok());
    }
    ensure!(sent > count / 2, "only {sent} of {count} messages were sent");
    Ok(format!("{sent} messages sent\n"))
}

fn devices() -> Vec<PathBuf> {
    let below = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
    below("/sys/bus".into())
        .flat_map(|bus| below(bus.path().join("devices")))
        .map(|device| device.path().join("uevent"))
        .collect()
}
