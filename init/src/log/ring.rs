//! A ring of fixed size for output that is not written yet, with the time of each piece.
//!
//! Bytes that do not fit are dropped and counted; no writer waits for room. After a drop everything
//! is dropped until the ring is half empty, because a log with one long gap is readable and a log
//! with a gap in every line is not.

use std::collections::VecDeque;

use super::stamp::Stamp;

/// The number of pieces. Further bytes belong to the last one.
const PIECES_MAX: usize = 1024;

/// The time in microseconds within which bytes belong to the same piece.
const SAME: u64 = 1000;

/// Bytes that were read from one process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Piece {
    /// The time of the read.
    pub stamp: Stamp,
    /// The process id, or 0.
    pub process: u32,
    /// The number of bytes that were dropped before these.
    pub dropped: u64,
    length: usize,
}

/// The ring.
#[derive(Debug)]
pub struct Ring {
    bytes: Box<[u8]>,
    start: usize,
    length: usize,
    pieces: VecDeque<Piece>,
    process: u32,
    dropped: u64,
    full: bool,
}

impl Ring {
    /// Returns a ring of this size in bytes. It takes up memory only as it fills for the first
    /// time.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self {
            bytes: vec![0; size].into_boxed_slice(),
            start: 0,
            length: 0,
            pieces: VecDeque::new(),
            process: 0,
            dropped: 0,
            full: false,
        }
    }

    /// Attributes the bytes from now on to this process.
    pub const fn set_process(&mut self, process: u32) {
        self.process = process;
    }

    /// True if there is nothing to take.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0 && self.dropped == 0
    }

    /// Returns the number of free bytes.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.bytes.len() - self.length
    }

    /// Returns the buffer for the next bytes, empty if they must be dropped.
    pub fn spare(&mut self) -> &mut [u8] {
        self.full &= self.length > self.bytes.len() / 2;
        if self.full || self.room() == 0 {
            return &mut [];
        }
        let (end, size) = (self.start + self.length, self.bytes.len());
        let free = if end < size { end..size } else { end - size..self.start };
        &mut self.bytes[free]
    }

    /// Records that the first `length` bytes of [`Self::spare`] were filled.
    pub fn fill(&mut self, length: usize, stamp: Stamp) {
        self.length += length;
        let crowded = self.pieces.len() >= PIECES_MAX;
        match self.pieces.back_mut() {
            Some(last)
                if self.dropped == 0
                    && last.process == self.process
                    && (crowded || stamp.monotonic.saturating_sub(last.stamp.monotonic) < SAME) =>
            {
                last.length += length;
            }
            _ => {
                let dropped = std::mem::take(&mut self.dropped);
                self.pieces.push_back(Piece { stamp, process: self.process, dropped, length });
            }
        }
    }

    /// Counts bytes that were discarded for lack of room.
    pub const fn drop_bytes(&mut self, length: u64) {
        self.full = true;
        self.dropped = self.dropped.saturating_add(length);
    }

    /// Copies all of `bytes`, or drops all of them.
    pub fn push(&mut self, mut bytes: &[u8], stamp: Stamp) {
        self.full &= self.length > self.bytes.len() / 2;
        if self.full || self.room() < bytes.len() {
            return self.drop_bytes(bytes.len() as u64);
        }
        while !bytes.is_empty() {
            let spare = self.spare();
            let length = spare.len().min(bytes.len());
            spare[..length].copy_from_slice(&bytes[..length]);
            bytes = &bytes[length..];
            self.fill(length, stamp);
        }
    }

    /// Moves at most `most` bytes of one piece to `into`. Bytes that were dropped at the end are a
    /// piece without bytes.
    pub fn take(&mut self, most: usize, into: &mut Vec<u8>) -> Option<Piece> {
        into.clear();
        let Some(piece) = self.pieces.front_mut() else {
            let dropped = std::mem::take(&mut self.dropped);
            let last = Piece { stamp: Stamp::now(), process: self.process, dropped, length: 0 };
            return (dropped > 0).then_some(last);
        };
        let length = piece.length.min(most);
        let taken = Piece { length, ..*piece };
        piece.length -= length;
        piece.dropped = 0;
        self.pieces.pop_front_if(|piece| piece.length == 0);
        let first = length.min(self.bytes.len() - self.start);
        into.extend_from_slice(&self.bytes[self.start..self.start + first]);
        into.extend_from_slice(&self.bytes[..length - first]);
        self.start = (self.start + length) % self.bytes.len();
        self.length -= length;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Ring;
    use crate::log::stamp::Stamp;

    fn at(monotonic: u64) -> Stamp {
        Stamp { real: 0, monotonic }
    }

    #[test]
    fn a_full_ring_drops_and_reports_the_number_and_the_place() {
        let mut ring = Ring::new(8);
        ring.push(b"12345678", at(1));
        ring.push(b"lost", at(2));
        assert!(ring.spare().is_empty());
        let mut out = Vec::new();
        assert_eq!(ring.take(4, &mut out).unwrap().dropped, 0);
        ring.push(b"next", at(9000));
        assert_eq!(ring.take(99, &mut out).unwrap().dropped, 0);
        assert_eq!(out, b"5678");
        let piece = ring.take(99, &mut out).unwrap();
        assert_eq!((piece.dropped, piece.stamp, &out[..]), (4, at(9000), &b"next"[..]));
        assert!(ring.is_empty());
    }

    #[test]
    fn bytes_dropped_at_the_end_are_reported_at_once() {
        let mut ring = Ring::new(4);
        ring.push(b"12345", at(1));
        let mut out = Vec::new();
        assert_eq!(ring.take(99, &mut out).unwrap().dropped, 5);
        assert!(out.is_empty() && ring.is_empty());
        assert_eq!(ring.take(99, &mut out), None);
    }

    #[test]
    fn after_a_drop_there_is_one_gap_until_half_of_the_ring_is_free() {
        let mut ring = Ring::new(8);
        ring.push(b"12345678", at(1));
        ring.drop_bytes(1);
        let mut out = Vec::new();
        ring.take(3, &mut out).unwrap();
        assert!(ring.spare().is_empty());
        ring.take(1, &mut out).unwrap();
        assert!(!ring.spare().is_empty());
    }

    #[test]
    fn pieces_keep_their_times_and_processes() {
        let mut ring = Ring::new(64);
        ring.set_process(1);
        ring.push(b"a", at(0));
        ring.push(b"b", at(999));
        ring.push(b"c", at(5000));
        ring.set_process(2);
        ring.push(b"d", at(5001));
        let mut out = Vec::new();
        let mut found = Vec::new();
        while let Some(piece) = ring.take(99, &mut out) {
            found.push((out.clone(), piece.stamp.monotonic, piece.process));
        }
        assert_eq!(
            found,
            [(b"ab".to_vec(), 0, 1), (b"c".to_vec(), 5000, 1), (b"d".to_vec(), 5001, 2)]
        );
    }

    #[test]
    fn many_pieces_use_no_more_memory() {
        let mut ring = Ring::new(1 << 16);
        for at_micros in 0..10_000 {
            ring.push(b"x", at(at_micros * 5000));
        }
        assert!(ring.pieces.len() <= super::PIECES_MAX);
    }

    proptest! {
        /// Every byte is taken once and in order, or counted as dropped.
        #[test]
        fn nothing_is_lost_without_being_counted(
            steps in prop::collection::vec((0_usize..40, 0_usize..40), 1..100),
            size in 1_usize..64,
        ) {
            let mut ring = Ring::new(size);
            let (mut next, mut taken, mut lost, mut given) = (0_u8, 0_u64, 0_u64, 0_u64);
            let mut kept = Vec::new();
            let mut out = Vec::new();
            let drain = |ring: &mut Ring, most: usize, out: &mut Vec<u8>, kept: &mut Vec<u8>| {
                let piece = ring.take(most, out).unwrap_or_default();
                kept.extend_from_slice(out);
                (out.len() as u64, piece.dropped)
            };
            for (step, (push, take)) in steps.into_iter().enumerate() {
                let bytes: Vec<u8> = (0..push).map(|_| { next = next.wrapping_add(1); next }).collect();
                given += bytes.len() as u64;
                ring.push(&bytes, at(step as u64 * 700));
                let (more, gone) = drain(&mut ring, take, &mut out, &mut kept);
                taken += more;
                lost += gone;
                prop_assert!(ring.length <= size);
            }
            while !ring.is_empty() {
                let (more, gone) = drain(&mut ring, 7, &mut out, &mut kept);
                taken += more;
                lost += gone;
            }
            prop_assert_eq!(taken + lost, given);
            if lost == 0 {
                prop_assert!(kept.iter().zip(1_u32..).all(|(byte, at)| u32::from(*byte) == at % 256));
            }
        }
    }
}
