//! A meter of decompressed bytes, and a reader that ends at its limits.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};

use crate::archive::limits::{Limits, Refusal};

/// The bytes that an archive may always have, because the ratio of a small one means nothing.
const FREE_BYTES: u64 = 1 << 20;

/// Counts the decompressed bytes of one archive.
pub struct Meter<'a> {
    limits: &'a Limits,
    /// The size of the archive.
    packed: u64,
    unpacked: Cell<u64>,
    is_late: &'a dyn Fn() -> bool,
    refusal: RefCell<Option<Refusal>>,
    has_ended: Cell<bool>,
    has_failed: Cell<bool>,
}

impl<'a> Meter<'a> {
    pub const fn new(limits: &'a Limits, packed: u64, is_late: &'a dyn Fn() -> bool) -> Self {
        Self {
            limits,
            packed,
            unpacked: Cell::new(0),
            is_late,
            refusal: RefCell::new(None),
            has_ended: Cell::new(false),
            has_failed: Cell::new(false),
        }
    }

    /// Returns the reason why a reader has ended, once.
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal.borrow_mut().take()
    }

    /// True if a reader has come to its end.
    pub const fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    /// True if a decoder has failed.
    pub const fn has_failed(&self) -> bool {
        self.has_failed.get()
    }

    /// Adds bytes, and checks the limits.
    fn add(&self, count: usize) -> Result<(), Refusal> {
        let unpacked = self.unpacked.get() + count as u64;
        self.unpacked.set(unpacked);
        let Limits { bytes, ratio, .. } = *self.limits;
        if unpacked > bytes {
            return Err(Refusal::TooLarge(bytes));
        }
        if unpacked > FREE_BYTES.max(self.packed.saturating_mul(ratio)) {
            return Err(Refusal::Ratio(ratio));
        }
        if (self.is_late)() {
            return Err(Refusal::TooSlow);
        }
        Ok(())
    }

    /// Returns a reader whose bytes are counted.
    pub const fn reader<R: Read>(&'a self, from: R) -> Metered<'a, R> {
        Metered { meter: self, from, count: 0 }
    }
}

/// A reader whose bytes are counted.
pub struct Metered<'a, R> {
    meter: &'a Meter<'a>,
    from: R,
    count: u64,
}

impl<R> Metered<'_, R> {
    /// Returns the number of bytes of this reader.
    pub const fn count(&self) -> u64 {
        self.count
    }
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.from.read(buffer);
        self.meter.has_failed.set(self.meter.has_failed.get() || result.is_err());
        let count = result?;
        self.meter.has_ended.set(count == 0 && !buffer.is_empty());
        self.count += count as u64;
        if let Err(refusal) = self.meter.add(count) {
            *self.meter.refusal.borrow_mut() = Some(refusal);
            return Err(io::Error::other("a limit is exceeded"));
        }
        Ok(count)
    }
}

/// Returns the refusal for a reader's error.
pub fn damaged(error: &io::Error) -> Refusal {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Refusal::Truncated,
        _ => Refusal::Damaged(error.to_string()),
    }
}
