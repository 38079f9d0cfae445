//! The disk controllers in sysfs: whether their drivers must be loaded, and which of them show no
//! disk yet.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The time that a controller gets to show its first disk after it is ready. `NVMe` scans its
/// namespaces in the background, which takes milliseconds.
pub const SETTLE: Duration = Duration::from_secs(2);

/// The time that a controller gets to become ready. A large SSD takes seconds after power-on.
pub const READY: Duration = Duration::from_secs(10);

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

/// True for controllers whose driver shows disks after its module is loaded: `NVMe`, and Xen's
/// devices, which first negotiate with the host.
fn is_late(modalias: &str) -> bool {
    modalias.contains("bc01sc08") || modalias == "xen:vbd"
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
    let buses = devices().into_iter().map(|(alias, _)| alias);
    buses.chain(hyper_v()).collect()
}

/// Returns the modaliases and folders of the devices on these buses that can have disks.
fn devices() -> Vec<(String, PathBuf)> {
    let read = |bus: &str| fs::read_dir(format!("/sys/bus/{bus}/devices")).into_iter().flatten();
    let devices = ["pci", "virtio", "vmbus", "xen"].into_iter().flat_map(read).flatten();
    let aliases = devices.filter_map(|entry| {
        let alias = fs::read_to_string(entry.path().join("modalias")).ok()?;
        Some((alias.trim().to_owned(), entry.path()))
    });
    aliases.filter(|(alias, _)| has_disks(alias)).collect()
}

/// Returns the modalias of Hyper-V's bus, which appears in ACPI. Its own devices appear when its
/// driver is loaded.
fn hyper_v() -> Option<String> {
    let devices = fs::read_dir("/sys/bus/acpi/devices").into_iter().flatten().flatten();
    let bus = devices.map(|entry| entry.path()).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        is_hyper_v(&name)
    })?;
    fs::read_to_string(bus.join("modalias")).ok().map(|alias| alias.trim().to_owned())
}

/// True for the names that the kernel gives to `vmbus_acpi_device_ids` (`drivers/hv/vmbus_drv.c`), and
/// for Microsoft's own, which is compatible with them.
fn is_hyper_v(name: &str) -> bool {
    ["VMBUS:", "VMBus:", "MSFT1000:"].iter().any(|prefix| name.starts_with(prefix))
}

/// True if Hyper-V's bus is there, so that its devices follow.
#[must_use]
pub fn has_hyper_v() -> bool {
    hyper_v().is_some()
}

/// True if Hyper-V's bus shows a device with disks.
#[must_use]
pub fn hyper_v_has_disks() -> bool {
    devices().iter().any(|(alias, _)| alias.starts_with("vmbus:"))
}

/// True for PCI base class 1 (mass storage), virtio's block (2) and SCSI (8) devices, Hyper-V's SCSI,
/// IDE and Fibre Channel devices (`drivers/scsi/storvsc_drv.c`), and Xen's disks.
fn has_disks(modalias: &str) -> bool {
    let pci = modalias.starts_with("pci:") && modalias.contains("bc01");
    let others = [
        "virtio:d00000002v",
        "virtio:d00000008v",
        "vmbus:d96361baa104294db60572e2ffb1dc7f",
        "vmbus:32264132cb86a2449b5c50d1417354f5",
        "vmbus:4acc9b2f6900f34ab76b6fd0be528cda",
        "xen:vbd",
    ];
    pci || others.iter().any(|prefix| modalias.starts_with(prefix))
}

/// A controller that shows no disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Empty {
    /// The kernel's name of the controller.
    pub name: String,
    /// True if the controller works, so that its disks must follow soon.
    pub ready: bool,
}

impl Empty {
    /// True if the controller is no longer waited for.
    #[must_use]
    pub fn is_given_up(&self, waited: Duration) -> bool {
        waited >= if self.ready { SETTLE } else { READY }
    }
}

/// Returns the controllers that are not waited for by loading their modules, and show no disk.
#[must_use]
pub fn without_disk() -> Vec<Empty> {
    let late = devices().into_iter().filter(|(alias, _)| is_late(alias));
    late.filter_map(|(_, folder)| judge(&folder)).collect()
}

/// Judges one controller by its folder. `NVMe` has its disks, `nvme0n1` or, with several paths,
/// `nvme0c0n1`, below `nvme/nvme0`; Xen has them below `block`.
fn judge(folder: &Path) -> Option<Empty> {
    if children(&folder.join("block")).next().is_some() {
        return None;
    }
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let Some(controller) = children(&folder.join("nvme")).next() else {
        // Without a driver nothing will follow.
        return folder.join("driver").exists().then_some(Empty { name, ready: false });
    };
    let own = controller.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_disk = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.strip_prefix(&own).is_some_and(|rest| rest.starts_with(['n', 'c']))
    };
    if children(&controller).any(|path| is_disk(&path)) {
        return None;
    }
    let state = fs::read_to_string(controller.join("state")).unwrap_or_default();
    match state.trim() {
        "dead" | "deleting" | "deleting (no IO)" => None,
        state => Some(Empty { name: own, ready: state == "live" }),
    }
}

fn children(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::{Empty, READY, SETTLE, Way, has_disks, is_hyper_v, judge, way};

    const AHCI: &str = "pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01";
    const NVME: &str = "pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02";
    const XEN: &str = "xen:vbd";

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
        check(&[XEN], false, false, true, Way::Load);
        check(&[AHCI], false, false, false, Way::None);
        check(&[AHCI], false, true, false, Way::Look);
        check(&[AHCI], true, false, false, Way::Load);
        check(&[AHCI], false, false, true, Way::Load);
        check(&[AHCI, NVME], false, false, false, Way::Look);
    }

    #[test]
    fn only_hardware_that_can_have_disks_is_waited_for() {
        for alias in [
            AHCI,
            NVME,
            XEN,
            "virtio:d00000002v00001AF4",
            "virtio:d00000008v00001AF4",
            "vmbus:d96361baa104294db60572e2ffb1dc7f",
            "vmbus:32264132cb86a2449b5c50d1417354f5",
        ] {
            assert!(has_disks(alias), "{alias}");
        }
        for alias in [
            "pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00",
            "virtio:d00000001v00001AF4",
            "vmbus:635161f83edfc546913ff2d2f965ed0e",
            "xen:vif",
            "",
        ] {
            assert!(!has_disks(alias), "{alias}");
        }
    }

    #[test]
    fn the_bus_of_hyper_v_is_known_by_its_names_in_acpi() {
        assert!(["VMBUS:00", "VMBus:00", "MSFT1000:00"].iter().all(|name| is_hyper_v(name)));
        assert!(!is_hyper_v("PNP0C0C:00"));
    }

    /// Judges a controller whose folder has these entries, folders or files with a content.
    fn found(entries: &[(&str, Option<&str>)]) -> Option<Empty> {
        let folder = tempfile::tempdir().unwrap();
        let device = folder.path().join("0000:00:04.0");
        fs::create_dir(&device).unwrap();
        for (name, content) in entries {
            let path = device.join(name);
            match content {
                None => fs::create_dir_all(path).unwrap(),
                Some(text) => {
                    fs::create_dir_all(path.parent().unwrap()).unwrap();
                    fs::write(path, text).unwrap();
                }
            }
        }
        judge(&device)
    }

    #[test]
    fn a_controller_is_waited_for_until_it_shows_a_disk() {
        let empty = |name: &str, ready| Some(Empty { name: name.into(), ready });
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[("driver", None)]), empty("0000:00:04.0", false));
        assert_eq!(found(&[("driver", None), ("block/xvda", None)]), None);
        let state = |state| ("nvme/nvme1/state", Some(state));
        assert_eq!(found(&[state("connecting\n")]), empty("nvme1", false));
        assert_eq!(found(&[state("live\n")]), empty("nvme1", true));
        assert_eq!(found(&[state("live\n"), ("nvme/nvme1/ng1n1", None)]), empty("nvme1", true));
        assert_eq!(found(&[state("dead\n")]), None);
        assert_eq!(found(&[state("live\n"), ("nvme/nvme1/nvme1n1", None)]), None);
        assert_eq!(found(&[state("live\n"), ("nvme/nvme1/nvme1c0n1", None)]), None);
    }

    #[test]
    fn a_controller_that_is_not_ready_gets_more_time() {
        let empty = |ready| Empty { name: "nvme0".into(), ready };
        assert!(!empty(true).is_given_up(SETTLE.checked_sub(Duration::from_millis(1)).unwrap()));
        assert!(empty(true).is_given_up(SETTLE));
        assert!(!empty(false).is_given_up(SETTLE) && empty(false).is_given_up(READY));
    }
}
