//! The ports of an AHCI controller, as its registers show them without a driver (Serial ATA AHCI
//! 1.3.1, chapter 3).
//!
//! Most virtual machines have such a controller, and most leave it empty. Its driver spends a third
//! of a second to find that out, because it resets each port and waits for an answer.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr;

/// The size of the registers of the controller and 32 ports. A controller with fewer ports has less.
const REGISTERS: u64 = 0x100 + 32 * 0x80;

/// The fields of the capabilities: staggered spin-up, with which a port shows no drive before it is
/// told to.
const CAPABILITIES: usize = 0x00;
const STAGGERED: u32 = 1 << 27;

/// The bit mask of the ports that exist.
const PORTS: usize = 0x0c;

/// The value of a register that cannot be read.
const NOTHING: u32 = u32::MAX;

/// True if a PCI class and subclass in a modalias belong to such a controller.
pub fn is_controller(modalias: &str) -> bool {
    modalias.starts_with("pci:") && modalias.contains("bc01sc06i01")
}

/// True if the controller with this folder in sysfs certainly has no drive. It is not certain of one
/// with a driver, and of one whose registers are switched off or may not be read
/// (`kernel_lockdown(7)`).
pub fn is_empty(folder: &Path) -> bool {
    !folder.join("driver").exists()
        && Registers::map(&folder.join("resource5"))
            .is_some_and(|registers| no_drive(|at| registers.read(at)))
}

/// Judges the registers by their offsets.
fn no_drive(read: impl Fn(usize) -> u32) -> bool {
    let (capabilities, ports) = (read(CAPABILITIES), read(PORTS));
    if capabilities == NOTHING || capabilities & STAGGERED != 0 || ports == 0 || ports == NOTHING {
        return false;
    }
    (0..32).filter(|port| ports & (1 << port) != 0).all(|port| detection(read(status(port))) == 0)
}

/// The field "device detection" of a port's status, which is 0 without a device.
fn detection(status: u32) -> u32 {
    status & 0xf
}

/// The offset of a port's status.
fn status(port: usize) -> usize {
    0x100 + port * 0x80 + 0x28
}

/// The registers in memory.
struct Registers {
    start: *mut libc::c_void,
    length: usize,
}

impl Registers {
    fn map(resource: &Path) -> Option<Self> {
        let file = File::open(resource).ok()?;
        let length = usize::try_from(file.metadata().ok()?.len().min(REGISTERS)).ok()?;
        let (read, shared) = (libc::PROT_READ, libc::MAP_SHARED);
        // SAFETY: a new mapping of a file touches no memory of this process.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), length, read, shared, file.as_raw_fd(), 0) };
        (start != libc::MAP_FAILED).then_some(Self { start, length })
    }

    /// Reads one register.
    fn read(&self, at: usize) -> u32 {
        if !at.is_multiple_of(4) || at + 4 > self.length {
            return NOTHING;
        }
        // SAFETY: the offset is inside the mapping, which lives as long as `self`.
        let register = unsafe { self.start.byte_add(at) };
        // SAFETY: the address is aligned, and a register has any value.
        unsafe { register.cast::<u32>().read_volatile() }
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        // SAFETY: the mapping belongs to this value, and nothing else points into it.
        unsafe { libc::munmap(self.start, self.length) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{
        CAPABILITIES, NOTHING, PORTS, Registers, STAGGERED, is_controller, no_drive, status,
    };

    /// Judges a controller with ports 0, 1 and 4 by its capabilities and a status per port.
    fn check(capabilities: u32, statuses: [u32; 3], expected: bool) {
        let read = |at| match at {
            CAPABILITIES => capabilities,
            PORTS => 0b1_0011,
            at if at == status(0) => statuses[0],
            at if at == status(1) => statuses[1],
            at if at == status(4) => statuses[2],
            at => panic!("register {at:#x} is of no interest"),
        };
        assert_eq!(no_drive(read), expected, "{capabilities:#x} {statuses:x?}");
    }

    #[test]
    fn a_controller_is_empty_if_all_its_ports_say_so() {
        // QEMU's ICH9: a port with a drive has 0x113.
        check(0xc014_1f05, [0, 0, 0], true);
        check(0xc014_1f05, [0, 0, 0x113], false);
        check(0xc014_1f05, [1, 0, 0], false);
        // A port that is switched off.
        check(0xc014_1f05, [0, 4, 0], false);
    }

    #[test]
    fn a_controller_that_cannot_be_judged_is_not_empty() {
        check(0xc014_1f05 | STAGGERED, [0, 0, 0], false);
        assert!(!no_drive(|_| u32::MAX));
        assert!(!no_drive(|_| 0));
    }

    #[test]
    fn registers_are_read_from_as_much_as_there_is() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Registers::map(file.path()).is_none());
        file.as_file().write_all(&[0, 0, 0, 0, 1, 2, 0, 0]).unwrap();
        let registers = Registers::map(file.path()).unwrap();
        assert_eq!([4, 8, 6].map(|at| registers.read(at)), [0x201, NOTHING, NOTHING]);
    }

    #[test]
    fn a_controller_is_known_by_its_class() {
        assert!(is_controller("pci:v00008086d00002922sv00001AF4sd00001100bc01sc06i01"));
        assert!(!is_controller("pci:v00001B36d00000010sv00001AF4sd00001100bc01sc08i02"));
        assert!(!is_controller("virtio:d00000002v00001AF4"));
    }
}
