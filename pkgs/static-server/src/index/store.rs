//! Bodies in sealed memory, or in an open file.
//!
//! The memory is a memfd(2) that is sealed before it is mapped for reading, so that its pages can
//! neither change nor disappear: reading them never faults, and sendfile(2) never sees a change.
//! Ranges with larger bodies get huge pages while they are filled, if the kernel supports that (6.1
//! and later). sendfile(2) then costs a seventh less, because it finds all pages at once. Sealing
//! returns the part of the last huge page that is beyond the content.
//!
//! A file may be truncated while it is served. It is therefore never mapped, but only read by
//! system calls, which report its end.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// Bodies of at least this many bytes are page-aligned, so that sendfile(2) touches no page twice.
const ALIGNED_FROM: u64 = 32 << 10;
const PAGE: u64 = 4096;

/// Bodies of at least this many bytes are sent by sendfile(2), even from memory, because the copy
/// costs more than the second system call.
pub const SENDFILE_FROM: u64 = 8 << 10;

/// Bodies of at least this many bytes have a store of their own, so that content that is read again
/// can share them, and their answers keep nothing else alive.
pub const OWN_FROM: u64 = 1 << 20;

/// The size of a huge page if pages have 4 KiB. Huge pages are optional.
const HUGE: usize = 2 << 20;

/// `MADV_COLLAPSE` of madvise(2).
const COLLAPSE: libc::c_int = 25;

/// A store of bodies.
#[derive(Debug)]
pub enum Store {
    /// Bytes that cannot change.
    Memory(Region),
    /// A file that is read on demand, and may have become shorter.
    File(File),
}

impl Store {
    /// Returns bytes of a memory store.
    #[must_use]
    pub fn memory(&self, start: u64, len: u64) -> Option<&[u8]> {
        let Self::Memory(region) = self else { return None };
        let start = usize::try_from(start).ok()?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        region.map.bytes().get(start..end)
    }

    /// Returns the descriptor that the bytes can be sent from.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Memory(region) => region.memfd.as_fd(),
            Self::File(file) => file.as_fd(),
        }
    }

    /// Returns the number of bytes in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        match self {
            Self::Memory(region) => region.map.bytes().len() as u64,
            Self::File(_) => 0,
        }
    }
}

/// Sealed memory.
#[derive(Debug)]
pub struct Region {
    memfd: OwnedFd,
    map: Map,
}

/// A region that is being filled.
#[derive(Debug)]
pub struct Filling {
    memfd: OwnedFd,
    map: Map,
    used: usize,
    /// The start of the first range for which no huge page was tried yet; `None` after a refusal,
    /// because every further attempt may cost the kernel a search.
    plain_from: Option<usize>,
}

impl Filling {
    /// Reserves addresses for this many bytes. Unused addresses cost no memory.
    pub fn with_room(room: u64) -> io::Result<Self> {
        let room = usize::try_from(room).unwrap_or(usize::MAX).max(1);
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let memfd = memfd_create(c"content", flags)?;
        ftruncate(&memfd, room as u64)?;
        let map = Map::aligned(&memfd, room, ProtFlags::READ | ProtFlags::WRITE)?;
        Ok(Self { memfd, map, used: 0, plain_from: Some(0) })
    }

    /// Reserves addresses for one body of this many bytes, and for a whole huge page at its end.
    pub fn for_one(len: u64) -> io::Result<Self> {
        Self::with_room((len + 1).next_multiple_of(HUGE as u64))
    }

    /// Returns the number of bytes that still fit.
    #[must_use]
    pub fn room(&self) -> u64 {
        (self.map.len - self.used) as u64
    }

    /// Reads a file of `len` bytes, and returns the bytes and their offset.
    ///
    /// A file of another length is being changed, which is an error.
    pub fn read(&mut self, file: &mut File, len: u64) -> io::Result<(u64, &[u8])> {
        // With room for one more byte, a single system call both reads the file and finds its end,
        // because only there the kernel returns fewer bytes than requested.
        let start = self.place(len + 1)?;
        let end = start + usize::try_from(len).map_err(io::Error::other)?;
        let mut at = start;
        while at < end || at == start {
            match file.read(&mut self.map.bytes_mut()[at..=end])? {
                0 if at == end => break,
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => at += count,
            }
        }
        if at > end {
            return Err(io::Error::other("it grew while it was read"));
        }
        self.used = end;
        Ok((start as u64, &self.map.bytes()[start..end]))
    }

    /// Appends bytes, and returns their offset.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<u64> {
        let start = self.place(bytes.len() as u64)?;
        let end = start + bytes.len();
        self.map.bytes_mut()[start..end].copy_from_slice(bytes);
        self.used = end;
        Ok(start as u64)
    }

    /// Removes the bytes from `start` on, because an earlier copy of them exists.
    pub fn take_back(&mut self, start: u64) {
        self.used = self.used.min(usize::try_from(start).unwrap_or(usize::MAX));
    }

    /// Returns the offset for the next bytes.
    fn place(&mut self, len: u64) -> io::Result<usize> {
        let used = self.used as u64;
        let start = if len >= ALIGNED_FROM { used.next_multiple_of(PAGE) } else { used };
        if start.checked_add(len).is_none_or(|end| end > self.map.len as u64) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let start = usize::try_from(start).map_err(io::Error::other)?;
        if len >= SENDFILE_FROM {
            self.make_huge(start, start + usize::try_from(len).map_err(io::Error::other)?);
        }
        Ok(start)
    }

    /// Moves the range of a body into huge pages, as far as possible.
    fn make_huge(&mut self, start: usize, end: usize) {
        while let Some(plain_from) = self.plain_from {
            let range = plain_from.max(start / HUGE * HUGE);
            if range >= end || range + HUGE > self.map.len {
                return;
            }
            if range >= self.used {
                // The kernel refuses a range that has no page yet.
                self.map.bytes_mut()[range] = 0;
            }
            self.plain_from = self.map.collapse(range, HUGE).then_some(range + HUGE);
        }
    }

    /// Seals the memory, after which the bytes can never change.
    pub fn seal(self) -> io::Result<Region> {
        let Self { memfd, map, used, .. } = self;
        // The kernel seals only memory that no mapping can write to.
        drop(map);
        ftruncate(&memfd, used.max(1) as u64)?;
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
        fcntl_add_seals(&memfd, seals)?;
        let map = Map::new(&memfd, used.max(1), ProtFlags::READ)?;
        Ok(Region { memfd, map })
    }
}

/// A mapping of a memfd; no other process has either of them.
#[derive(Debug)]
struct Map {
    address: *mut u8,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone, and shared references only read it.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    fn new(memfd: &OwnedFd, len: usize, protection: ProtFlags) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let address =
            unsafe { mmap(std::ptr::null_mut(), len, protection, MapFlags::SHARED, memfd, 0) }?;
        Ok(Self { address: address.cast(), len })
    }

    /// Maps at an address that is a multiple of the size of a huge page, as the kernel requires.
    fn aligned(memfd: &OwnedFd, len: usize, protection: ProtFlags) -> io::Result<Self> {
        let span = len.saturating_add(HUGE);
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: as in `new`.
        let found =
            unsafe { mmap_anonymous(std::ptr::null_mut(), span, ProtFlags::empty(), flags) }?;
        // SAFETY: nothing refers to the mapping that was just made.
        unsafe { munmap(found, span) }?;
        let hint = found.map_addr(|address| address.next_multiple_of(HUGE));
        // SAFETY: as in `new`. If another mapping has taken the place in the meantime, the kernel
        // chooses another address.
        let address = unsafe { mmap(hint, len, protection, MapFlags::SHARED, memfd, 0) }?;
        Ok(Self { address: address.cast(), len })
    }

    /// Moves a range that has at least one page into one huge page; false if the kernel refuses.
    fn collapse(&mut self, start: usize, len: usize) -> bool {
        let range = &mut self.bytes_mut()[start..start + len];
        // SAFETY: the range is mapped, and its bytes do not change.
        unsafe { libc::madvise(range.as_mut_ptr().cast(), len, COLLAPSE) == 0 }
    }

    const fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping has `len` bytes of a memfd that never becomes shorter while the
        // mapping lives, and that only `bytes_mut` writes to.
        unsafe { std::slice::from_raw_parts(self.address, self.len) }
    }

    /// Returns the bytes of a writable mapping.
    const fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `bytes`; the exclusive reference excludes other access. `Filling` is the
        // only caller, and its mapping is writable.
        unsafe { std::slice::from_raw_parts_mut(self.address, self.len) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the mapping any more. Unmapping a whole mapping cannot fail.
        let _ = unsafe { munmap(self.address.cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::{Filling, Store};
    use std::io::Write as _;

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let mut filling = Filling::with_room(100_000).unwrap();
        assert_eq!(filling.push(b"small").unwrap(), 0);
        assert_eq!(filling.push(&vec![7; 40_000]).unwrap(), 4096);
        let store = Store::Memory(filling.seal().unwrap());
        assert_eq!(store.memory(0, 5).unwrap(), b"small");
        assert_eq!(store.memory(4096, 40_000).unwrap(), vec![7; 40_000]);
        assert_eq!(store.memory(4096, 40_001), None);
        assert_eq!(store.memory(u64::MAX, 2), None);
    }

    #[test]
    fn sealed_memory_cannot_be_written_or_cut() {
        let mut filling = Filling::with_room(10).unwrap();
        filling.push(b"text").unwrap();
        let store = Store::Memory(filling.seal().unwrap());
        assert!(rustix::io::write(store.fd(), b"x").is_err());
        assert!(rustix::fs::ftruncate(store.fd(), 0).is_err());
    }

    #[test]
    fn memory_that_was_not_filled_is_given_back() {
        for len in [5, 5_000, 50_000, 3_000_000] {
            let mut filling = Filling::with_room(9 << 20).unwrap();
            let bytes: Vec<u8> = (0..len).map(|number| (number % 251) as u8).collect();
            assert_eq!(filling.push(&bytes).unwrap(), 0);
            let store = Store::Memory(filling.seal().unwrap());
            assert_eq!(store.memory(0, len).unwrap(), bytes);
            // A block has 512 bytes, and a page has at least eight blocks.
            let blocks = rustix::fs::fstat(store.fd()).unwrap().st_blocks;
            let page = rustix::param::page_size() as u64;
            assert_eq!(u64::try_from(blocks).unwrap() * 512, len.next_multiple_of(page), "{len}");
        }
    }

    #[test]
    fn a_file_that_does_not_fit_or_changes_is_an_error() {
        let mut filling = Filling::with_room(10).unwrap();
        assert!(filling.push(&[0; 11]).is_err());
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"12345").unwrap();
        for len in [4, 6] {
            rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).unwrap();
            assert!(filling.read(&mut file, len).is_err(), "{len}");
        }
        assert_eq!(filling.room(), 10);
        rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).unwrap();
        assert_eq!(filling.read(&mut file, 5).unwrap(), (0, &b"12345"[..]));
    }
}
