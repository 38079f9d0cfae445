//! The disk controllers in sysfs, and whether their drivers must be loaded.

use std::fs;

/// The preparation that a search for the data partition needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// No search: there is no disk and no controller that could bring one up.
    None,
    /// All disks are present or appear by themselves.
    Look,
    /// Drivers must be loaded first.
    Load,
}

/// Decides from the machine's controllers, the presence of a SCSI host and of a disk, and whether a
/// module drives one of the controllers. The last question takes longest and is asked last.
#[must_use]
pub fn way(
    controllers: &[String],
    scsi: bool,
    disk: bool,
    driver: impl FnOnce(&[String]) -> bool,
) -> Way {
    if controllers.is_empty() {
        Way::None
    } else if scsi || driver(controllers) {
        Way::Load
    } else if disk || controllers.iter().any(|alias| is_late(alias)) {
        Way::Look
    } else {
        Way::None
    }
}

/// True for `NVMe`, whose driver scans in the background.
#[must_use]
pub fn is_late(modalias: &str) -> bool {
    modalias.contains("bc01sc08")
}

/// True if the machine has a SCSI host.
#[must_use]
pub fn has_scsi_host() -> bool {
    fs::read_dir("/sys/class/scsi_host").is_ok_and(|mut hosts| hosts.next().is_some())
}

/// True if the machine has an optical drive: a SCSI device of type 5 (SPC-4, table 65).
#[must_use]
pub fn has_optical_drive() -> bool {
    let devices = fs::read_dir("/sys/bus/scsi/devices").into_iter().flatten().flatten();
    let mut types = devices.filter_map(|entry| fs::read_to_string(entry.path().join("type")).ok());
    types.any(|kind| kind.trim() == "5")
}

/// Returns the modaliases of all hardware that can have disks.
#[must_use]
pub fn controllers() -> Vec<String> {
    let read = |bus: &str| fs::read_dir(format!("/sys/bus/{bus}/devices")).into_iter().flatten();
    let devices = ["pci", "virtio"].into_iter().flat_map(read).flatten();
    let aliases =
        devices.filter_map(|entry| fs::read_to_string(entry.path().join("modalias")).ok());
    aliases.map(|alias| alias.trim().to_owned()).filter(|alias| has_disks(alias)).collect()
}

/// True for PCI base class 1 (mass storage) and virtio's block (2) and SCSI (8) devices.
fn has_disks(modalias: &str) -> bool {
    let pci = modalias.starts_with("pci:") && modalias.contains("bc01");
    let virtio = ["virtio:d00000002v", "virtio:d00000008v"];
    pci || virtio.iter().any(|prefix| modalias.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::{Way, has_disks, way};

    const AHCI: &str = "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01";
    const NVME: &str = "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02";

    #[test]
    fn only_a_machine_that_may_have_disks_is_searched_and_drivers_are_loaded_only_if_needed() {
        let check = |controllers: &[&str], scsi, disk, driver, expected| {
            let controllers: Vec<String> = controllers.iter().map(|name| (*name).into()).collect();
            assert_eq!(way(&controllers, scsi, disk, |_| driver), expected, "{controllers:?}");
        };
        check(&[], false, false, true, Way::None);
        check(&[], true, true, true, Way::None);
        check(&[NVME], false, false, false, Way::Look);
        check(&[NVME], false, true, true, Way::Load);
        check(&[AHCI], false, false, false, Way::None);
        check(&[AHCI], false, true, false, Way::Look);
        check(&[AHCI], true, false, false, Way::Load);
        check(&[AHCI], false, false, true, Way::Load);
        check(&[AHCI, NVME], false, false, false, Way::Look);
    }

    #[test]
    fn only_hardware_that_can_have_disks_is_waited_for() {
        for alias in [AHCI, NVME, "virtio:d00000002v00001AF4", "virtio:d00000008v00001AF4"] {
            assert!(has_disks(alias), "{alias}");
        }
        for alias in [
            "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00",
            "virtio:d00000001v00001AF4",
            "",
        ] {
            assert!(!has_disks(alias), "{alias}");
        }
    }
}
