//! Reports devices that no driver in this image supports.
//!
//! Only buses that take add-on hardware count. Most ACPI, platform and processor devices have no
//! driver on any machine and need none. The same is true of PCI bridges and the devices of every
//! chipset.

use std::path::Path;

use super::device::Device;
use crate::console::once;

/// The prefixes of the modaliases that count.
const BUSES: [&str; 7] = ["pci:", "scsi:", "sdio:", "usb:", "virtio:", "vmbus:", "xen:"];

/// PCI base classes that need no driver (PCI Code and ID Assignment Specification, chapter 1):
/// memory controllers, bridges, base system peripherals, processors.
const PCI_CLASSES: [&str; 4] = ["05", "06", "08", "0b"];

/// True if a device without a driver is reported.
#[must_use]
pub fn counts(modalias: &str) -> bool {
    let bus = BUSES.iter().any(|bus| modalias.starts_with(bus));
    let class = pci_class(modalias).unwrap_or_default();
    bus && !PCI_CLASSES.contains(&class)
}

/// Returns the base class in `pci:v…d…sv…sd…bcCCscSSiII`.
fn pci_class(modalias: &str) -> Option<&str> {
    let rest = modalias.strip_prefix("pci:")?;
    rest.rsplit_once("bc")?.1.get(..2)
}

/// Reports a device if it has no driver, once.
pub fn report(device: &Device) {
    let Device { modalias, path } = device;
    let place = Path::new("/sys").join(path.trim_start_matches('/'));
    // A bus has links to its devices; the real path shows where the device is plugged in.
    let place = place.canonicalize().unwrap_or(place);
    if !place.join("driver").exists() {
        let place = place.display();
        once::say(&format!("no driver in this image for the device {place} ({modalias})"));
    }
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn only_devices_that_can_be_plugged_in_count() {
        for (modalias, expected) in [
            ("pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01", true),
            ("usb:v1D6Bp0002d0612dc09dsc00dp00ic09isc00ip00in00", true),
            ("virtio:d00000099v00001AF4", true),
            ("pci:v00008086d000029C0sv00001AF4sd00001100bc06sc00i00", false),
            ("acpi:PNP0C0F:", false),
            ("cpu:type:x86,ven0000fam0006mod006A:feature:,0000", false),
            ("platform:pcspkr", false),
            ("pci:", true),
            ("", false),
        ] {
            assert_eq!(counts(modalias), expected, "{modalias}");
        }
    }
}
