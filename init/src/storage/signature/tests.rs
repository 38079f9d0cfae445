use proptest::prelude::*;

use super::{Content, Usage, identify};

const ID: [u8; 16] = [
    0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0xfe, 0xdc, 0xba, 0x98, 0x76, 0x54, 0x32, 0x10,
];
const UUID: &str = "01234567-89ab-cdef-fedc-ba9876543210";

/// A device of 128 KiB with these bytes at these places.
fn device(parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 128 * 1024];
    for (at, part) in parts {
        bytes[*at..*at + part.len()].copy_from_slice(part);
    }
    bytes
}

fn of(bytes: &[u8]) -> Option<Content> {
    identify(&mut |at, length| {
        let at = usize::try_from(at).ok()?;
        bytes.get(at..at.checked_add(length)?).map(<[u8]>::to_vec)
    })
}

fn check(parts: &[(usize, &[u8])], kind: &str, label: &str, uuid: &str) {
    let content = of(&device(parts)).unwrap_or_else(|| panic!("{kind} is not found"));
    assert_eq!(
        (content.kind, String::from_utf8_lossy(&content.label).as_ref(), content.uuid.as_str()),
        (kind, label, uuid)
    );
}

const EXT: [(usize, &[u8]); 5] = [
    (1024, &[1]),
    (1080, &[0x53, 0xEF]),
    (1024 + 92, &[4]),
    (1024 + 96, &[0x40]),
    (1024 + 104, &ID),
];

/// A FAT16 with one table of one sector after one reserved sector, and 16 entries.
const FAT: [(usize, &[u8]); 9] = [
    (11, &[0, 2, 4, 1, 0, 1, 16, 0]),
    (21, &[0xF8, 1]),
    (39, &[0x78, 0x56, 0x34, 0x12]),
    (43, b"OLD        FAT16   "),
    (510, &[0x55, 0xAA]),
    (1024, b"\xE5GONE      \x08"),
    (1056, b"AL\0o\0n\0g\0\0\0\x0F"),
    (1088, b"FILE    TXT\x20"),
    (1120, b"CIDATA     \x08"),
];

#[test]
fn file_systems_have_their_label_and_uuid() {
    check(&[&EXT[..], &[(1024 + 120, b"data")]].concat(), "ext4", "data", UUID);
    check(&[&EXT[..], &[(1024 + 96, &[0])]].concat(), "ext3", "", UUID);
    check(&[&EXT[..], &[(1024 + 96, &[0]), (1024 + 92, &[0])]].concat(), "ext2", "", UUID);
    let xfs: [(usize, &[u8]); 3] = [(0, b"XFSB\0\0\x10\0"), (32, &ID), (108, b"twelve bytes")];
    check(&xfs, "xfs", "twelve bytes", UUID);
    let btrfs: [(usize, &[u8]); 3] =
        [(65536 + 32, &ID), (65536 + 64, b"_BHRfS_M"), (65536 + 299, "größer".as_bytes())];
    check(&btrfs, "btrfs", "größer", UUID);
    let f2fs: [(usize, &[u8]); 3] =
        [(1024, &[0x10, 0x20, 0xF5, 0xF2]), (1024 + 108, &ID), (1024 + 124, b"a\0b\0")];
    check(&f2fs, "f2fs", "ab", UUID);
    let erofs: [(usize, &[u8]); 3] =
        [(1024, &[0xE2, 0xE1, 0xF5, 0xE0]), (1024 + 48, &ID), (1024 + 64, b"root")];
    check(&erofs, "erofs", "root", UUID);
}

#[test]
fn swap_space_is_found_for_every_size_of_a_page() {
    for page in [4096, 8192, 16384, 65536] {
        let parts: [(usize, &[u8]); 4] =
            [(1024, &[1]), (1036, &ID), (1052, b"swap0"), (page - 10, b"SWAPSPACE2")];
        check(&parts, "swap", "swap0", UUID);
    }
}

#[test]
fn encrypted_volumes_have_a_uuid_in_text() {
    let one: [(usize, &[u8]); 2] = [(0, b"LUKS\xba\xbe\0\x01"), (168, UUID.as_bytes())];
    check(&one, "crypto_LUKS", "", UUID);
    let two: [(usize, &[u8]); 3] =
        [(0, b"LUKS\xba\xbe\0\x02"), (24, b"secret"), (168, UUID.as_bytes())];
    check(&two, "crypto_LUKS", "secret", UUID);
    assert_eq!(of(&device(&[(0, b"LUKS\xba\xbe\0\x02"), (168, b"../../etc")])), None);
}

#[test]
fn the_label_of_fat_is_the_folders_and_else_the_boot_sectors() {
    check(&FAT, "vfat", "CIDATA", "1234-5678");
    check(&FAT[..8], "vfat", "OLD", "1234-5678");
    check(&[&FAT[..8], &[(43, b"NO NAME    ")]].concat(), "vfat", "", "1234-5678");
    let large: [(usize, &[u8]); 8] = [
        (11, &[0, 2, 1, 32, 0, 2, 0, 0]),
        (21, &[0xF8, 0]),
        (36, &[4]),
        (44, &[3]),
        (67, &[1, 0, 0, 0]),
        (82, b"FAT32   "),
        (510, &[0x55, 0xAA]),
        ((32 + 8 + 1) * 512, b"ESP        \x08"),
    ];
    check(&large, "vfat", "ESP", "0000-0001");
}

#[test]
fn the_identity_of_a_disc_is_its_time() {
    let disc: [(usize, &[u8]); 3] = [
        (32768, b"\x01CD001\x01"),
        (32768 + 40, b"cidata                          "),
        (32768 + 813, b"2026113011220000\0"),
    ];
    check(&disc, "iso9660", "cidata", "2026-11-30-11-22-00-00");
    // A hybrid image has a file system of its own in the first 32 KiB.
    check(&[&disc[..], &FAT[..]].concat(), "vfat", "CIDATA", "1234-5678");
}

#[test]
fn a_member_of_a_volume_is_never_taken_for_a_file_system() {
    let lvm: [(usize, &[u8]); 2] = [(512, b"LABELONE"), (512 + 24, b"LVM2 001")];
    let raid: [(usize, &[u8]); 1] = [(4096, b"\xFC\x4E\x2B\xA9\x01\0\0\0")];
    let ceph: [(usize, &[u8]); 1] = [(0, b"bluestore block device\n")];
    for (parts, kind) in
        [(&lvm[..], "LVM2_member"), (&raid[..], "linux_raid_member"), (&ceph[..], "ceph_bluestore")]
    {
        let content = of(&device(&[&EXT[..], parts].concat())).unwrap();
        assert_eq!((content.kind, content.usage), (kind, Usage::Member));
    }
}

#[test]
fn two_formats_on_one_device_are_none() {
    assert_eq!(of(&device(&[&EXT[..], &FAT[..]].concat())), None);
    assert_eq!(of(&device(&[])), None);
    assert_eq!(of(&[]), None);
    // A journal device.
    assert_eq!(of(&device(&[&EXT[..], &[(1024 + 96, &[8])]].concat())), None);
}

proptest! {
    /// Damage changes the result but never reads more than a few known places.
    #[test]
    fn damage_is_survived(format in 0..2_usize, places in prop::collection::vec((0..2048_usize, any::<u8>()), 0..40)) {
        let mut bytes = device([&EXT[..], &FAT[..]][format]);
        for (at, byte) in places {
            bytes[at] = byte;
        }
        let mut total = 0;
        let _ = identify(&mut |at, length| {
            total += length;
            let at = usize::try_from(at).ok()?;
            bytes.get(at..at.checked_add(length)?).map(<[u8]>::to_vec)
        });
        prop_assert!(total < 64 * 1024, "{total}");
    }

    #[test]
    fn any_label_arrives(label in "[a-zA-Z0-9 /\\\\]{0,14}[a-z]") {
        let content = of(&device(&[&EXT[..], &[(1024 + 120, label.as_bytes())]].concat())).unwrap();
        prop_assert_eq!(content.label, label.as_bytes());
    }
}
