use proptest::prelude::*;

use super::super::super::fake::{Fake, after_power_cuts};
use super::super::{GptError, header, partitions};
use super::*;

const MIB: u64 = 1 << 20;
const ID: [u8; 16] = *b"sixteen-bytes-id";

/// Reads a table as the kernel does: the header at a block, and its entries.
fn read(disk: &Fake, own: u64) -> Result<(Header, Vec<u8>), GptError> {
    let block = disk.geometry.block;
    let bytes = disk.read(own * block, 92).unwrap();
    let found = header(&bytes)?;
    assert_eq!(u64::from_le_bytes(bytes[24..32].try_into().unwrap()), own);
    let entries = disk.read(found.first_block * block, found.bytes()).unwrap();
    Ok((found, entries))
}

fn only(disk: &Fake, own: u64) -> Result<Partition, GptError> {
    let (header, entries) = read(disk, own)?;
    partitions(&header, &entries, &VAR).map(|found| found[0])
}

fn made(block: u64, bytes: u64) -> Fake {
    let mut disk = Fake::new(block, bytes);
    let table = NewTable::new(disk.geometry, ID).unwrap();
    for step in table.mark().iter().chain(&table.finish()) {
        disk.run(step);
    }
    disk
}

fn enlarge(disk: &Fake, bytes: u64) -> Fake {
    let mut larger = disk.clone();
    larger.geometry.blocks = bytes / disk.geometry.block;
    larger
}

fn growth(disk: &Fake) -> Option<Growth> {
    let (header, entries) = read(disk, 1).unwrap();
    grow(disk.geometry, &header, &entries, &only(disk, 1).unwrap())
}

#[test]
fn both_tables_of_a_new_disk_describe_one_aligned_partition() {
    for (block, bytes) in [(512, 100 * MIB), (4096, 100 * MIB), (512, 100 * MIB + 512)] {
        let disk = made(block, bytes);
        let last = disk.geometry.blocks - 1;
        let found = only(&disk, 1).unwrap();
        assert_eq!(only(&disk, last), Ok(found));
        assert_eq!(
            (found.number, found.first * block, (found.last + 1) * block),
            (1, MIB, 99 * MIB)
        );
        assert!(found.grows() && !found.is_no_auto() && !found.is_read_only());
        let (primary, entries) = read(&disk, 1).unwrap();
        let (backup, _) = read(&disk, last).unwrap();
        assert_eq!((primary.other, backup.other), (last, 1));
        assert_eq!(Header { other: 1, first_block: backup.first_block, ..primary }, backup);
        assert!(primary.last_usable < backup.first_block && found.last <= primary.last_usable);
        assert_eq!((&entries[16..32], primary.disk == ID), (&ID[..], false));
        // The protective MBR: one partition of type 0xee over the whole disk.
        let mbr = disk.read(446, 66).unwrap();
        assert_eq!((mbr[4], &mbr[8..12], &mbr[64..]), (0xee, &[1, 0, 0, 0][..], &[0x55, 0xaa][..]));
        assert_eq!(u64::from(u32::from_le_bytes(mbr[12..16].try_into().unwrap())), last);
    }
}

#[test]
fn a_mark_belongs_to_one_size_of_disk() {
    let disk = made(512, 100 * MIB);
    let mark = disk.read(mark_at(disk.geometry), 512).unwrap();
    assert_eq!(marked(disk.geometry, &mark), Some(ID));
    assert_eq!(marked(enlarge(&disk, 101 * MIB).geometry, &mark), None);
    assert_eq!(marked(disk.geometry, &[0; 512]), None);
}

#[test]
fn a_power_cut_while_a_table_grows_leaves_the_old_or_the_new_one() {
    for (block, rounds) in [(512, 3), (4096, 3)] {
        let mut disk = made(block, 100 * MIB);
        for round in 0..rounds {
            let old = only(&disk, 1).unwrap();
            let larger = enlarge(&disk, (150 + 50 * round) * MIB);
            let growth = growth(&larger).unwrap();
            for cut in after_power_cuts(&larger, &growth.steps) {
                let found = only(&cut, 1).unwrap();
                assert!(found.last == old.last || found.last == growth.last);
                let (header, _) = read(&cut, 1).unwrap();
                // The backup that the primary header names is there.
                assert_eq!(only(&cut, header.other), Ok(found));
            }
            disk = larger;
            for step in &growth.steps {
                disk.run(step);
            }
            let found = only(&disk, 1).unwrap();
            assert_eq!((found.first, found.number), (old.first, old.number));
            assert_eq!((found.last + 1) * block, (149 + 50 * round) * MIB);
            assert_eq!(growth_of_the_same(&disk), None);
        }
    }
}

fn growth_of_the_same(disk: &Fake) -> Option<Growth> {
    growth(disk)
}

#[test]
fn a_partition_grows_only_if_nothing_lies_behind_it() {
    let mut disk = made(512, 100 * MIB);
    let (old, mut entries) = read(&disk, 1).unwrap();
    entries[128..144].fill(3);
    let second = |entries: &mut Vec<u8>, first: u64, last: u64| {
        entries[160..168].copy_from_slice(&first.to_le_bytes());
        entries[168..176].copy_from_slice(&last.to_le_bytes());
    };
    let data = only(&disk, 1).unwrap();
    disk = enlarge(&disk, 200 * MIB);
    second(&mut entries, data.last + 1, data.last + 1);
    assert_eq!(grow(disk.geometry, &old, &entries, &data), None);
    second(&mut entries, 128, 2000);
    assert!(grow(disk.geometry, &old, &entries, &data).is_some());
    // No room for the second copy of the entries.
    second(&mut entries, 40, 2000);
    assert_eq!(grow(disk.geometry, &old, &entries, &data), None);
}

#[test]
fn a_guid_has_three_fields_in_reversed_order() {
    let uuid: [u8; 16] = std::array::from_fn(|at| u8::try_from(at).unwrap());
    assert_eq!(id(uuid), [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]);
}

proptest! {
    #[test]
    fn no_size_of_disk_leads_beyond_it(small in any::<bool>(), blocks in 0_u64..100_000, more in 0_u64..5000) {
        let block = if small { 512 } else { 4096 };
        let geometry = Geometry { block, blocks };
        if NewTable::new(geometry, ID).is_some() {
            let disk = made(block, blocks * block);
            let larger = enlarge(&disk, (blocks + more) * block);
            let old = only(&disk, 1).unwrap();
            if let Some(growth) = growth(&larger) {
                let mut grown = larger.clone();
                for step in &growth.steps {
                    grown.run(step);
                }
                let found = only(&grown, 1).unwrap();
                prop_assert!(found.last >= old.last);
                prop_assert_eq!(only(&grown, grown.geometry.blocks - 1), Ok(found));
            } else {
                prop_assert_eq!(more, 0);
            }
        }
    }

    #[test]
    fn any_valid_header_grows_or_does_not(bytes in prop::collection::vec(any::<u8>(), 2048), number in 1_u32..10, values: [u64; 6]) {
        let [other, first_usable, last_usable, first_block, blocks, last] = values;
        let header = Header { other, first_usable, last_usable, disk: ID, first_block, count: 16, size: 128, checksum: 0 };
        let partition = Partition { number, first: 5, last, attributes: 0 };
        let _ = grow(Geometry { block: 512, blocks: blocks / 1024 + 1 }, &header, &bytes, &partition);
    }
}
