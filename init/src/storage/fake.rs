//! A disk in memory for tests, of which only the blocks that are not zero are kept.

use std::collections::BTreeMap;

use kiln_contract::template::Template;

use super::gpt::Geometry;
use super::gpt::write::Step;

/// The size of the pieces that are kept.
const PIECE: u64 = 512;

/// The template of tests: a file system with a superblock and a block in the middle.
pub const EXTENTS: [(u64, &[u8]); 3] = [(1024, b"super"), (8192, b"table"), (4 << 20, b"journal")];

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fake {
    /// Its blocks.
    pub geometry: Geometry,
    pieces: BTreeMap<u64, Vec<u8>>,
}

/// Returns the template of [`EXTENTS`].
pub fn template() -> Template<'static> {
    Template { bytes: 64 << 20, extents: EXTENTS.to_vec() }
}

impl Fake {
    /// Returns a blank disk.
    pub fn new(block: u64, bytes: u64) -> Self {
        Self { geometry: Geometry { block, blocks: bytes / block }, pieces: BTreeMap::new() }
    }

    /// Writes bytes.
    pub fn write(&mut self, at: u64, bytes: &[u8]) {
        assert!(at + bytes.len() as u64 <= self.geometry.bytes(), "beyond the disk");
        for (offset, &byte) in (at..).zip(bytes) {
            let piece = self.pieces.entry(offset / PIECE).or_insert_with(|| vec![0; 512]);
            piece[usize::try_from(offset % PIECE).unwrap()] = byte;
        }
        self.pieces.retain(|_, piece| piece.iter().any(|&byte| byte != 0));
    }

    /// Reads bytes. Returns `None` beyond the end.
    pub fn read(&self, at: u64, length: usize) -> Option<Vec<u8>> {
        if at + length as u64 > self.geometry.bytes() {
            return None;
        }
        let mut out = vec![0; length];
        let pieces = self.pieces.range(at / PIECE..=(at + length as u64) / PIECE);
        for (number, piece) in pieces {
            for (offset, &byte) in (number * PIECE..).zip(piece) {
                if (at..at + length as u64).contains(&offset) {
                    out[usize::try_from(offset - at).unwrap()] = byte;
                }
            }
        }
        Some(out)
    }

    /// Executes a step.
    pub fn run(&mut self, step: &Step<'_>) {
        match step {
            Step::Write(at, bytes) => self.write(*at, bytes),
            Step::Zero(at, length) => {
                let zeroed = at / PIECE..(at + length) / PIECE;
                self.pieces.retain(|number, _| !zeroed.contains(number));
            }
            Step::Sync => {}
        }
    }
}

/// Returns the disks that a power cut can leave while these steps run: between two syncs, any of the
/// writes may have reached the disk.
pub fn after_power_cuts(disk: &Fake, steps: &[Step<'_>]) -> Vec<Fake> {
    let mut found = vec![disk.clone()];
    let mut synced = disk.clone();
    for group in steps.split(|step| *step == Step::Sync) {
        let alone = 1 << group.len().min(6);
        let chosen = (0..alone).map(|bits: usize| {
            (0..group.len()).filter(|at| bits >> at & 1 == 1).collect::<Vec<_>>()
        });
        let prefixes = (0..=group.len()).map(|end| (0..end).collect());
        for indices in chosen.chain(prefixes) {
            let mut cut = synced.clone();
            for &at in &indices {
                cut.run(&group[at]);
            }
            found.push(cut);
        }
        for step in group {
            synced.run(step);
        }
    }
    found
}
