//! The links of a disk or partition. Pure.

use super::name::{encode, replace};
use super::vpd;
use crate::storage::signature::{Content, Usage};

/// The longest name of a file in Linux, in bytes.
const NAME_MAX: usize = 255;

/// The identity of a whole disk, by its kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Identity {
    /// A disk without an identity.
    #[default]
    None,
    /// The serial number that the hypervisor gave a virtio disk.
    Virtio(String),
    /// An `NVMe` namespace: the controller's model and serial number, the namespace's number, and
    /// its world wide identity (`eui.…`, `uuid.…`).
    Nvme { model: String, serial: String, number: String, wwid: String },
    /// A disk on a SCSI bus.
    Scsi(vpd::Names),
    /// A card: name and serial number.
    Card { name: String, serial: String },
    /// A device of the device mapper.
    Mapped { name: String, uuid: String },
}

/// Everything that decides a device's links.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// The identity of the whole disk.
    pub identity: Identity,
    /// The place of the whole disk ([`super::place`]).
    pub place: Option<String>,
    /// The partition, or `None` for a whole disk.
    pub partition: Option<Partition>,
    /// The file system, if the device is not a part of a larger one.
    pub content: Option<Content>,
}

/// A partition's entry in its table.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Partition {
    pub number: u32,
    pub name: String,
    pub uuid: Option<String>,
}

/// Returns the links below `/dev/disk`, sorted.
pub(super) fn links(facts: &Facts) -> Vec<String> {
    let part = facts.partition.as_ref().map(|partition| format!("-part{}", partition.number));
    let part = part.unwrap_or_default();
    let mut links: Vec<String> =
        ids(&facts.identity).into_iter().map(|id| format!("by-id/{id}{part}")).collect();
    links.extend(facts.place.iter().map(|place| format!("by-path/{place}{part}")));
    if let Some(partition) = &facts.partition {
        let uuid = partition.uuid.as_deref().unwrap_or_default();
        links.extend(link("by-partuuid", uuid.as_bytes()));
        links.extend(link("by-partlabel", partition.name.as_bytes()));
    }
    if let Some(content) = &facts.content {
        if content.usage != Usage::Member {
            links.extend(link("by-uuid", content.uuid.as_bytes()));
        }
        if content.usage == Usage::FileSystem {
            links.extend(link("by-label", &content.label));
        }
    }
    links.retain(|link| link.len() <= NAME_MAX);
    links.sort();
    links.dedup();
    links
}

/// Returns one link of a text that was read from the disk.
fn link(folder: &str, text: &[u8]) -> Option<String> {
    let name = encode(text);
    let allowed = !matches!(name.as_str(), "" | "." | "..");
    allowed.then(|| format!("{folder}/{name}"))
}

fn ids(identity: &Identity) -> Vec<String> {
    let mut ids = Vec::new();
    let mut add = |prefix: &str, parts: &[&str]| {
        if parts.iter().all(|part| !part.trim().is_empty()) {
            let parts: Vec<String> = parts.iter().map(|part| replace(part)).collect();
            ids.push(format!("{prefix}{}", parts.join("_")));
        }
    };
    match identity {
        Identity::None => {}
        Identity::Virtio(serial) => add("virtio-", &[serial]),
        Identity::Nvme { model, serial, number, wwid } => {
            // The first name is for a disk with one namespace, the second for any.
            add("nvme-", &[model, serial]);
            add("nvme-", &[model, serial, number]);
            add("nvme-", &[wwid]);
        }
        Identity::Scsi(names) => {
            add("scsi-", &[&names.scsi]);
            add("wwn-0x", &[&names.wwn]);
            add("ata-", &[&names.ata]);
        }
        Identity::Card { name, serial } => add("mmc-", &[name, serial]),
        Identity::Mapped { name, uuid } => {
            add("dm-name-", &[name]);
            add("dm-uuid-", &[uuid]);
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Facts, Identity, Partition, links};
    use crate::devices::disk::vpd;
    use crate::storage::signature::{Content, Usage};

    fn content(usage: Usage, label: &[u8]) -> Content {
        Content { kind: "ext4", usage, label: label.into(), uuid: "12-34".into() }
    }

    #[test]
    fn a_disk_and_its_partitions_have_the_same_identity() {
        let nvme = || Identity::Nvme {
            model: "QEMU NVMe Ctrl                 ".into(),
            serial: "kiln/1 ".into(),
            number: "1".into(),
            wwid: "eui.0123".into(),
        };
        let disk =
            Facts { identity: nvme(), place: Some("pci-x-nvme-1".into()), ..Facts::default() };
        assert_eq!(
            links(&disk),
            [
                "by-id/nvme-QEMU_NVMe_Ctrl_kiln_1",
                "by-id/nvme-QEMU_NVMe_Ctrl_kiln_1_1",
                "by-id/nvme-eui.0123",
                "by-path/pci-x-nvme-1",
            ]
        );
        let partition = Partition { number: 2, name: "my data".into(), uuid: Some("ab-cd".into()) };
        let partition = Facts {
            identity: nvme(),
            partition: Some(partition),
            content: Some(content(Usage::FileSystem, b"a/b")),
            ..Facts::default()
        };
        assert_eq!(
            links(&partition),
            [
                "by-id/nvme-QEMU_NVMe_Ctrl_kiln_1-part2",
                "by-id/nvme-QEMU_NVMe_Ctrl_kiln_1_1-part2",
                "by-id/nvme-eui.0123-part2",
                "by-label/a\\x2fb",
                "by-partlabel/my\\x20data",
                "by-partuuid/ab-cd",
                "by-uuid/12-34",
            ]
        );
    }

    #[test]
    fn every_kind_of_disk_has_its_names() {
        let names = vpd::Names {
            scsi: "0QEMU    QEMU HARDDISK   drive-0".into(),
            wwn: "5000c5".into(),
            ata: "MODEL_SERIAL".into(),
        };
        for (identity, expected) in [
            (Identity::None, &[][..]),
            (Identity::Virtio(String::new()), &[]),
            (Identity::Virtio("data 1".into()), &["by-id/virtio-data_1"]),
            (
                Identity::Scsi(names),
                &[
                    "by-id/ata-MODEL_SERIAL",
                    "by-id/scsi-0QEMU_QEMU_HARDDISK_drive-0",
                    "by-id/wwn-0x5000c5",
                ],
            ),
            (Identity::Card { name: "SD".into(), serial: "0x1".into() }, &["by-id/mmc-SD_0x1"]),
            (
                Identity::Mapped { name: "vg-data".into(), uuid: "LVM-1".into() },
                &["by-id/dm-name-vg-data", "by-id/dm-uuid-LVM-1"],
            ),
        ] {
            assert_eq!(links(&Facts { identity, ..Facts::default() }), expected);
        }
    }

    #[test]
    fn only_a_file_system_has_a_label() {
        for (usage, expected) in [
            (Usage::FileSystem, &["by-label/x", "by-uuid/12-34"][..]),
            (Usage::Encrypted, &["by-uuid/12-34"]),
            (Usage::Member, &[]),
        ] {
            assert_eq!(
                links(&Facts { content: Some(content(usage, b"x")), ..Facts::default() }),
                expected
            );
        }
    }

    proptest! {
        /// A label from a disk never names another folder or a special name.
        #[test]
        fn a_label_stays_in_its_folder(label: Vec<u8>, name: String) {
            let partition = Some(Partition { number: 1, name, uuid: None });
            let facts = Facts { partition, content: Some(content(Usage::FileSystem, &label)), ..Facts::default() };
            for link in links(&facts) {
                let parts: Vec<&str> = link.split('/').collect();
                prop_assert_eq!(parts.len(), 2);
                prop_assert!(!["", ".", ".."].contains(&parts[1]));
            }
        }
    }
}
