use kiln_base::crc::crc32;
use proptest::prelude::*;

use super::{GptError, Header, VAR, header, partitions};

/// Returns a header block and its entries, with `kinds` as the partitions' types.
fn table(kinds: &[[u8; 16]]) -> (Vec<u8>, Vec<u8>) {
    let mut entries = vec![0; 128 * 128];
    for (entry, kind) in entries.chunks_mut(128).zip(kinds) {
        entry[..16].copy_from_slice(kind);
    }
    let mut block = vec![0; 512];
    block[..8].copy_from_slice(b"EFI PART");
    block[8..12].copy_from_slice(&0x1_0000_u32.to_le_bytes());
    block[12..16].copy_from_slice(&92_u32.to_le_bytes());
    block[72..80].copy_from_slice(&2_u64.to_le_bytes());
    block[80..84].copy_from_slice(&128_u32.to_le_bytes());
    block[84..88].copy_from_slice(&128_u32.to_le_bytes());
    block[88..92].copy_from_slice(&crc32(&entries).to_le_bytes());
    seal(&mut block);
    (block, entries)
}

fn seal(block: &mut [u8]) {
    block[16..20].fill(0);
    let sum = crc32(&block[..92]);
    block[16..20].copy_from_slice(&sum.to_le_bytes());
}

fn find(block: &[u8], entries: &[u8]) -> Result<Vec<u32>, GptError> {
    let found = partitions(&header(block)?, entries, &VAR)?;
    Ok(found.iter().map(|partition| partition.number).collect())
}

#[test]
fn partitions_have_the_kernels_numbers() {
    let (block, entries) = table(&[[1; 16], VAR, [0; 16], VAR]);
    assert_eq!(find(&block, &entries), Ok(vec![2, 4]));
    let (block, entries) = table(&[[1; 16]]);
    assert_eq!(find(&block, &entries), Ok(vec![]));
}

#[test]
fn a_disk_without_a_table_differs_from_a_damaged_one() {
    assert_eq!(header(&[0; 512]), Err(GptError::NoSignature));
    assert_eq!(header(&[]), Err(GptError::NoSignature));
    let (mut block, mut entries) = table(&[VAR]);
    entries[200] ^= 1;
    assert_eq!(find(&block, &entries), Err(GptError::BadChecksum));
    block[40] ^= 1;
    assert_eq!(header(&block), Err(GptError::BadChecksum));
}

#[test]
fn invalid_sizes_are_refused() {
    for (at, value) in [(80, 0_u32), (80, 100_000), (84, 64), (84, 129), (84, 1 << 20), (72, 1)] {
        let (mut block, _) = table(&[VAR]);
        block[at..at + 4].copy_from_slice(&value.to_le_bytes());
        seal(&mut block);
        assert_eq!(header(&block), Err(GptError::BadHeader), "{at} {value}");
    }
    let (block, entries) = table(&[VAR]);
    assert_eq!(find(&block, &entries[..1000]), Err(GptError::BadHeader));
}

proptest! {
    #[test]
    fn a_changed_bit_is_never_accepted(bit in 0..92_usize * 8, entry in 0..128_usize * 128 * 8) {
        let (mut block, mut entries) = table(&[VAR]);
        block[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(header(&block).is_err());
        block[bit / 8] ^= 1 << (bit % 8);
        entries[entry / 8] ^= 1 << (entry % 8);
        prop_assert_eq!(find(&block, &entries), Err(GptError::BadChecksum));
    }

    #[test]
    fn no_sizes_lead_beyond_the_entries(
        count: u32,
        size: u32,
        length in 0_u32..700,
        entries in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let (mut block, _) = table(&[]);
        block[12..16].copy_from_slice(&length.to_le_bytes());
        block[80..84].copy_from_slice(&count.to_le_bytes());
        block[84..88].copy_from_slice(&size.to_le_bytes());
        block[88..92].copy_from_slice(&crc32(&entries).to_le_bytes());
        seal(&mut block);
        if let Ok(found) = find(&block, &entries) {
            prop_assert!(length == 92 && found.len() * 128 <= entries.len());
        }
    }

    #[test]
    fn any_sane_table_is_found(count in 1_u32..200, at in 0_u32..200) {
        prop_assume!(at < count);
        let mut entries = vec![0; count as usize * 128];
        entries[at as usize * 128..][..16].copy_from_slice(&VAR);
        let header = Header { count, checksum: crc32(&entries), ..header(&table(&[]).0).unwrap() };
        let found = partitions(&header, &entries, &VAR).unwrap();
        prop_assert_eq!(found.iter().map(|one| one.number).collect::<Vec<_>>(), [at + 1]);
    }
}

#[test]
fn attributes_are_those_of_the_specification() {
    let flags = |attributes: u64| {
        let (mut block, mut entries) = table(&[VAR]);
        entries[48..56].copy_from_slice(&attributes.to_le_bytes());
        block[88..92].copy_from_slice(&crc32(&entries).to_le_bytes());
        seal(&mut block);
        let found = partitions(&header(&block).unwrap(), &entries, &VAR).unwrap();
        (found[0].is_no_auto(), found[0].is_read_only(), found[0].grows())
    };
    assert_eq!(flags(0), (false, false, false));
    assert_eq!(flags(1 << 63), (true, false, false));
    assert_eq!(flags(1 << 60), (false, true, false));
    assert_eq!(flags(1 << 59), (false, false, true));
}
