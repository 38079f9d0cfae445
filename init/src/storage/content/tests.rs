use proptest::prelude::*;

use super::super::fake::{Fake, after_power_cuts, template};
use super::super::gpt::{self, Geometry};
use super::*;

const GIB: u64 = 1 << 30;
const ID: [u8; 16] = *b"sixteen-bytes-id";

fn content(disk: &Fake) -> Content {
    look(disk.geometry, &template(), &mut |at, length| disk.read(at, length))
}

/// A layout: its name, what must be found, and its bytes by their offset.
type Layout = (&'static str, &'static str, Vec<(u64, Vec<u8>)>);

/// Returns bytes of this length with values at some offsets.
fn block(length: usize, values: &[(usize, &[u8])]) -> Vec<u8> {
    let mut block = vec![0; length];
    for (at, value) in values {
        block[*at..at + value.len()].copy_from_slice(value);
    }
    block
}

/// Returns a boot sector of FAT32.
fn fat() -> Vec<u8> {
    block(
        512,
        &[
            (3, b"mkfs.fat"),
            (11, &[0, 2, 8, 32]),
            (16, &[2]),
            (21, &[0xf8]),
            (36, &[1, 0]),
            (44, &[2]),
            (82, b"FAT32   "),
            (510, &[0x55, 0xaa]),
        ],
    )
}

/// The disks of other systems, as their tools leave them on an empty disk of this size.
fn layouts(geometry: Geometry) -> Vec<Layout> {
    let end = geometry.bytes();
    let raid = |version: u8| block(256, &[(0, b"\xfc\x4e\x2b\xa9"), (4, &[version])]);
    let ext = block(1024, &[(0, &[1]), (0x18, &[2]), (0x38, b"\x53\xef"), (0x60, &[0x40, 2])]);
    let mbr = block(512, &[(446, &[0x80, 0, 2, 0, 0x83, 0, 0, 0, 0, 8]), (510, &[0x55, 0xaa])]);
    let uberblock = block(1024, &[(0, b"\x0c\xb1\xba\0\0\0\0\0"), (8, &[5])]);
    let header = block(512, &[(0, b"EFI PART"), (8, &[0, 0, 1, 0, 92])]);
    let btrfs = block(4096, &[(32, b"identity of it.."), (64, b"_BHRfS_M")]);
    let lvm = block(512, &[(0, b"LABELONE"), (24, b"LVM2 001")]);
    let luks = block(208, &[(0, b"LUKS\xba\xbe\0\x02"), (168, b"0c5b8e57-1f6a-4d0b-9a53-4e0e")]);
    let swap = block(4096, &[(1024, &[1]), (4086, b"SWAPSPACE2")]);
    let iso = block(2048, &[(0, b"\x01CD001\x01"), (813, b"2026112100000000")]);
    let xfs = block(512, &[(0, b"XFSB\0\0\x10\0")]);
    let last = end - geometry.block;
    vec![
        ("ext4 on the whole disk", "ext4", vec![(1024, ext)]),
        ("xfs on the whole disk", "xfs", vec![(0, xfs)]),
        ("btrfs on the whole disk", "btrfs", vec![(65536, btrfs)]),
        ("an LVM volume", "LVM2_member", vec![(512, lvm)]),
        ("LUKS", "crypto_LUKS", vec![(0, luks)]),
        (
            "LUKS2, of which only the second header is left",
            "data at byte",
            vec![(4 << 20, b"SKUL\xba\xbe\0\x02".to_vec())],
        ),
        ("md 1.0", "linux_raid_member", vec![((end - 8192) / 4096 * 4096, raid(1))]),
        ("md 0.90", "linux_raid_member", vec![((end - 65536) / 65536 * 65536, raid(0))]),
        ("md 1.1", "linux_raid_member", vec![(0, raid(1))]),
        ("md 1.2", "linux_raid_member", vec![(4096, raid(1))]),
        ("a DDF label", "data at byte", vec![(end - 512, b"\xde\x11\xde\x11".to_vec())]),
        (
            "a Promise label",
            "data at byte",
            vec![(end - 3087 * 512, b"Promise Technology".to_vec())],
        ),
        (
            "a ZFS pool",
            "zfs_member",
            vec![(128 << 10, uberblock.clone()), (end - (256 << 10), uberblock)],
        ),
        ("swap", "swap", vec![(0, swap)]),
        ("an MBR with a partition", "an MBR partition table", vec![(0, mbr.clone())]),
        ("a hybrid ISO image", "iso9660", vec![(0, mbr), (0x8000, iso)]),
        (
            "a GUID partition table with a wrong checksum",
            "a damaged GUID partition table",
            vec![(geometry.block, header.clone())],
        ),
        ("the backup of a GUID partition table", "the backup of a GUID", vec![(last, header)]),
        (
            "NTFS",
            "ntfs",
            vec![(0, block(512, &[(0, b"\xeb\x52\x90NTFS    "), (510, &[0x55, 0xaa])]))],
        ),
        (
            "BitLocker",
            "BitLocker",
            vec![(0, block(512, &[(0, b"\xeb\x58\x90-FVE-FS-"), (510, &[0x55, 0xaa])]))],
        ),
        (
            "exFAT",
            "exfat",
            vec![(0, block(512, &[(0, b"\xeb\x76\x90EXFAT   "), (510, &[0x55, 0xaa])]))],
        ),
        ("FAT", "vfat", vec![(0, fat())]),
        ("Ceph", "ceph_bluestore", vec![(0, b"bluestore block device\n".to_vec())]),
        ("random bytes", "data at byte", vec![(1 << 20, (0..=255).rev().collect())]),
        ("an old table in a GPT's gap", "data at byte", vec![(34 * 512, vec![7])]),
    ]
}

#[test]
fn no_disk_of_another_system_is_blank() {
    for (block, bytes) in [(512, GIB), (4096, GIB), (512, 3 * GIB + 512 * 1001)] {
        let blank = Fake::new(block, bytes);
        assert_eq!(content(&blank), Content::Blank);
        for (name, expected, parts) in layouts(blank.geometry) {
            let mut disk = blank.clone();
            for (at, part) in &parts {
                disk.write(*at, part);
            }
            let Content::Foreign(found) = content(&disk) else {
                panic!("{name} counts as blank");
            };
            let found = found.to_string();
            assert!(found.contains(expected), "{name}: {found}");
        }
    }
}

#[test]
fn a_disk_that_cannot_be_read_is_not_blank() {
    let disk = Fake::new(512, GIB);
    for bad in [0, HEAD - 1, GIB - TAIL, GIB - 1] {
        let mut read = |at: u64, length: usize| {
            let hit = (at..at + length as u64).contains(&bad);
            if hit { None } else { disk.read(at, length) }
        };
        assert_eq!(look(disk.geometry, &template(), &mut read), Content::Unreadable, "{bad}");
    }
}

/// True if the disk has a valid table with one data partition.
fn is_made(disk: &Fake) -> bool {
    let block = disk.geometry.block;
    let Ok(header) = gpt::header(&disk.read(block, 512).unwrap()) else { return false };
    let entries = disk.read(header.first_block * block, header.bytes()).unwrap();
    gpt::partitions(&header, &entries, &gpt::VAR).is_ok_and(|found| found.len() == 1)
}

#[test]
fn a_power_cut_while_a_partition_is_made_leaves_a_disk_that_is_taken_up_again() {
    for block in [512, 4096] {
        let blank = Fake::new(block, GIB);
        let table = NewTable::new(blank.geometry, ID).unwrap();
        let steps = make::steps(&table, &template());
        let mut whole = blank.clone();
        for step in &steps {
            whole.run(step);
        }
        assert!(is_made(&whole));
        let cuts = after_power_cuts(&blank, &steps);
        assert!(cuts.len() > 30);
        for mut cut in cuts {
            if is_made(&cut) {
                assert_eq!(cut, whole);
                continue;
            }
            match content(&cut) {
                Content::Blank => assert_eq!(cut, blank),
                Content::Begun(id) => assert_eq!(id, ID),
                other => panic!("{other:?}"),
            }
            for step in &steps {
                cut.run(step);
            }
            assert_eq!(cut, whole);
        }
    }
}

#[test]
fn an_unfinished_making_with_a_strangers_bytes_is_not_taken_up() {
    let blank = Fake::new(512, GIB);
    let table = NewTable::new(blank.geometry, ID).unwrap();
    let mut begun = blank;
    for step in &table.mark() {
        begun.run(step);
    }
    assert_eq!(content(&begun), Content::Begun(ID));
    for at in [0, 512, 2 * 512 + 200, 3 * 512, 1 << 20, GIB - TAIL, GIB - 512] {
        let mut disk = begun.clone();
        disk.write(at, b"x");
        assert!(matches!(content(&disk), Content::Foreign(_)), "{at}");
    }
    // A mark for a disk of another size.
    let mut larger = Fake::new(512, 2 * GIB);
    larger.write(2 * 512, &begun.read(2 * 512, 512).unwrap());
    assert!(matches!(content(&larger), Content::Foreign(_)));
}

proptest! {
    #[test]
    fn one_byte_at_the_beginning_or_the_end_protects_a_disk(at in 0..HEAD + TAIL, byte in 1_u8..) {
        let mut disk = Fake::new(512, GIB);
        disk.write(if at < HEAD { at } else { GIB - TAIL + (at - HEAD) }, &[byte]);
        prop_assert!(matches!(content(&disk), Content::Foreign(_)));
    }
}
