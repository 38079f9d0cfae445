//! A disk's place in the machine, from its folder in sysfs: the name in `/dev/disk/by-path`.
//! The names are those of systemd's `path_id`, for the buses of the kernels that we have.

use super::name::replace;

/// Reads an attribute, by its path below `/sys`.
pub(super) type Attribute<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Returns the name of a place. `path` is the disk's folder below `/sys`, without links.
/// Returns `None` for a disk without a place, such as a loop device.
pub(super) fn name(path: &str, attribute: &Attribute<'_>) -> Option<String> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let mut name: Vec<String> = controller(&parts).into_iter().collect();
    if let Some((session, lun)) = iscsi(&parts, attribute) {
        return Some(format!("{session}-lun-{lun}"));
    }
    name.extend(unit(&parts, path, attribute));
    (!name.is_empty()).then(|| name.join("-"))
}

/// Returns the device next to the disk that has a fixed place: the last PCI device, or a device of
/// the firmware.
fn controller(parts: &[&str]) -> Option<String> {
    if let Some(pci) = parts.iter().rev().find(|part| is_pci(part)) {
        return Some(format!("pci-{pci}"));
    }
    if let Some(at) = parts.iter().position(|part| is_guid(part)) {
        let acpi = parts[..at].last()?;
        return Some(format!("acpi-{acpi}-vmbus-{}", parts[at].replace('-', "")));
    }
    if let Some(vbd) = parts.iter().find(|part| part.starts_with("vbd-")) {
        return Some(format!("xen-{vbd}"));
    }
    match parts {
        ["devices", "platform", platform, ..] => Some(format!("platform-{platform}")),
        _ => None,
    }
}

/// Returns the disk's number at its controller. A virtio disk is the only one.
fn unit(parts: &[&str], path: &str, attribute: &Attribute<'_>) -> Vec<String> {
    if parts.last().is_some_and(|name| name.starts_with("nvme")) {
        let number = attribute(&format!("{path}/nsid"));
        return number.map(|number| format!("nvme-{number}")).into_iter().collect();
    }
    let Some(scsi) = parts.iter().find(|part| part.split(':').count() == 4 && !is_pci(part)) else {
        return Vec::new();
    };
    let numbers: Vec<&str> = scsi.split(':').collect();
    if parts.iter().any(|part| is_guid(part)) {
        return vec![format!("lun-{}", numbers[3])];
    }
    let usb = parts.iter().rev().find_map(|part| usb(part));
    let port = parts.iter().find(|part| numbered(part, "ata").is_some());
    if let Some(port) = port.and_then(|ata| attribute(&format!("class/ata_port/{ata}/port_no"))) {
        return vec![format!("ata-{port}")];
    }
    let host = relative_host(parts, numbers[0], attribute);
    let scsi = format!("scsi-{host}:{}", numbers[1..].join(":"));
    usb.into_iter().chain([scsi]).collect()
}

/// Returns a host's number among those of its controller, because the kernel numbers all hosts of
/// the machine in the order in which it finds them.
fn relative_host(parts: &[&str], host: &str, attribute: &Attribute<'_>) -> u32 {
    let number = host.parse().unwrap_or_default();
    let Some(at) = parts.iter().position(|part| numbered(part, "host") == Some(number)) else {
        return number;
    };
    let siblings = (0..number).filter(|sibling| {
        let folder = parts[..at].join("/");
        attribute(&format!("{folder}/host{sibling}/scsi_host/host{sibling}/host_busy")).is_some()
    });
    u32::try_from(siblings.count()).unwrap_or(number)
}

/// Returns `ip-ADDRESS:PORT-iscsi-TARGET` and the number of the unit.
fn iscsi<'a>(parts: &[&'a str], attribute: &Attribute<'_>) -> Option<(String, &'a str)> {
    let session = parts.iter().find_map(|part| numbered(part, "session"))?;
    let lun = parts.iter().find_map(|part| part.split(':').nth(3).filter(|_| !is_pci(part)))?;
    let target = attribute(&format!("class/iscsi_session/session{session}/targetname"))?;
    let connection = format!("class/iscsi_connection/connection{session}:0");
    let address = attribute(&format!("{connection}/persistent_address"))?;
    let port = attribute(&format!("{connection}/persistent_port"))?;
    Some((replace(&format!("ip-{address}:{port}-iscsi-{target}")), lun))
}

/// True for `DDDD:BB:DD.F`.
fn is_pci(part: &str) -> bool {
    part.rsplit_once('.').is_some_and(|(slot, function)| {
        function.len() == 1 && slot.split(':').count() == 3 && slot.bytes().all(is_hex_or(b':'))
    })
}

/// True for the name of a `VMBus` device.
fn is_guid(part: &str) -> bool {
    part.len() == 36 && part.split('-').count() == 5 && part.bytes().all(is_hex_or(b'-'))
}

fn is_hex_or(other: u8) -> impl Fn(u8) -> bool {
    move |byte| byte.is_ascii_hexdigit() || byte == other
}

/// Returns the number in `PREFIXnumber`.
fn numbered(part: &str, prefix: &str) -> Option<u32> {
    part.strip_prefix(prefix)?.parse().ok()
}

/// Returns the place of a USB interface `BUS-PORTS:CONFIGURATION.INTERFACE`.
fn usb(part: &str) -> Option<String> {
    let (bus, rest) = part.split_once('-')?;
    let valid = bus.parse::<u32>().is_ok() && rest.contains(':');
    let digits = rest.bytes().all(|byte| byte.is_ascii_digit() || b":.".contains(&byte));
    (valid && digits).then(|| format!("usb-0:{rest}"))
}

#[cfg(test)]
mod tests {
    use super::name;

    #[test]
    fn places_have_the_names_of_path_id() {
        let attribute = |path: &str| {
            let value = match path {
                "/devices/pci0000:00/0000:00:1c.0/0000:03:00.0/nvme/nvme0/nvme0n1/nsid" => "1",
                "class/ata_port/ata3/port_no" => "3",
                "class/iscsi_session/session2/targetname" => "iqn.2026-11.example:disk",
                "class/iscsi_connection/connection2:0/persistent_address" => "192.0.2.7",
                "class/iscsi_connection/connection2:0/persistent_port" => "3260",
                "devices/pci0000:00/0000:00:05.0/virtio2/host6/scsi_host/host6/host_busy" => "0",
                _ => return None,
            };
            Some(value.to_owned())
        };
        for (path, expected) in [
            ("/devices/pci0000:00/0000:00:04.0/virtio1/block/vda", Some("pci-0000:00:04.0")),
            (
                "/devices/pci0000:00/0000:00:1c.0/0000:03:00.0/nvme/nvme0/nvme0n1",
                Some("pci-0000:03:00.0-nvme-1"),
            ),
            (
                "/devices/pci0000:00/0000:00:05.0/virtio2/host6/target6:0:1/6:0:1:2/block/sda",
                Some("pci-0000:00:05.0-scsi-0:0:1:2"),
            ),
            (
                "/devices/pci0000:00/0000:00:05.0/virtio2/host7/target7:0:1/7:0:1:2/block/sda",
                Some("pci-0000:00:05.0-scsi-1:0:1:2"),
            ),
            (
                "/devices/pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0/block/sda",
                Some("pci-0000:00:1f.2-ata-3"),
            ),
            (
                "/devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0/host4/target4:0:0/4:0:0:0/block/sdb",
                Some("pci-0000:00:14.0-usb-0:2:1.0-scsi-0:0:0:0"),
            ),
            (
                "/devices/platform/host3/session2/target3:0:0/3:0:0:1/block/sdc",
                Some("ip-192.0.2.7:3260-iscsi-iqn.2026-11.example:disk-lun-1"),
            ),
            (
                "/devices/platform/a003e00.virtio_mmio/virtio0/block/vda",
                Some("platform-a003e00.virtio_mmio"),
            ),
            (
                "/devices/LNXSYSTM:00/ACPI0004:00/VMBUS:00/f8b3781a-1e82-4818-a1c3-63d806ec15bb/host0/target0:0:0/0:0:0:3/block/sda",
                Some("acpi-VMBUS:00-vmbus-f8b3781a1e824818a1c363d806ec15bb-lun-3"),
            ),
            ("/devices/vbd-768/block/xvda", Some("xen-vbd-768")),
            ("/devices/virtual/block/loop0", None),
        ] {
            assert_eq!(name(path, &attribute).as_deref(), expected, "{path}");
        }
    }
}
