//! Loop devices: a file as a block device (`include/uapi/linux/loop.h`).
//!
//! Opening the control device loads the kernel's module, if the kernel has none yet.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The device that knows the next free loop device.
const CONTROL: &str = "/dev/loop-control";

/// The kernel's folder of block devices.
const SYSFS: &str = "/sys/block";

const LOOP_CLR_FD: libc::Ioctl = 0x4C01;
const LOOP_GET_STATUS64: libc::Ioctl = 0x4C05;
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;

const READ_ONLY: u32 = 1;
const AUTO_CLEAR: u32 = 4;
const PARTITIONS: u32 = 8;
const DIRECT_IO: u32 = 16;

/// Attempts to get a free device, because another process can take it first.
const ATTEMPTS_MAX: u32 = 64;

/// `struct loop_info64`.
#[repr(C)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl Info {
    const EMPTY: Self = Self {
        device: 0,
        inode: 0,
        rdevice: 0,
        offset: 0,
        size_limit: 0,
        number: 0,
        encrypt_type: 0,
        encrypt_key_size: 0,
        flags: 0,
        file_name: [0; 64],
        crypt_name: [0; 64],
        encrypt_key: [0; 32],
        init: [0; 2],
    };
}

/// `struct loop_config`.
#[repr(C)]
struct Config {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// The settings of a new device.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one independent flag of the kernel")]
pub struct Options {
    /// Refuse writes.
    pub read_only: bool,
    /// Release the file when the device is no longer used.
    pub auto_clear: bool,
    /// Look for partitions.
    pub partitions: bool,
    /// Bypass the page cache of the file.
    pub direct: bool,
    /// The first byte of the file.
    pub offset: u64,
    /// The number of bytes, or 0 for all.
    pub size: u64,
}

impl Options {
    fn flags(self) -> u32 {
        [
            (self.read_only, READ_ONLY),
            (self.auto_clear, AUTO_CLEAR),
            (self.partitions, PARTITIONS),
            (self.direct, DIRECT_IO),
        ]
        .into_iter()
        .filter_map(|(on, flag)| on.then_some(flag))
        .sum()
    }
}

/// A loop device with its file.
#[derive(Debug, PartialEq, Eq)]
pub struct Attached {
    /// The device.
    pub device: PathBuf,
    /// The file's device number, inode and path, as the kernel reports them.
    pub file: (u64, u64, String),
}

/// Returns the next free device.
pub fn next_free() -> Result<PathBuf> {
    let control = File::options().read(true).write(true).open(CONTROL);
    let control = control.with_context(|| format!("cannot open {CONTROL}"))?;
    // SAFETY: the call has no argument.
    match unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) } {
        number if number >= 0 => Ok(PathBuf::from(format!("/dev/loop{number}"))),
        _ => Err(io::Error::last_os_error()).context("cannot find an unused loop device"),
    }
}

/// Attaches a file to a free device. The device stays in use while the returned file is open.
pub fn attach(file: &Path, options: Options) -> Result<(PathBuf, File)> {
    for _ in 0..ATTEMPTS_MAX {
        let device = next_free()?;
        match attach_to(&device, file, options) {
            Err(error) if is_busy(&error) => {}
            other => return other.map(|open| (device, open)),
        }
    }
    bail!("no loop device stays free")
}

fn is_busy(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.raw_os_error() == Some(libc::EBUSY))
}

/// Attaches a file to this device.
pub fn attach_to(device: &Path, file: &Path, options: Options) -> Result<File> {
    let open = |path: &Path| {
        let file = File::options().read(true).write(!options.read_only).open(path);
        file.with_context(|| format!("cannot open {}", path.display()))
    };
    let (backing, target) = (open(file)?, open(device)?);
    let (offset, size_limit) = (options.offset, options.size);
    let info = Info { offset, size_limit, flags: options.flags(), ..Info::EMPTY };
    let fd = u32::try_from(backing.as_raw_fd())?;
    let config = Config { fd, block_size: 0, info, reserved: [0; 8] };
    // SAFETY: the argument is a `struct loop_config` that lives until the call returns.
    if unsafe { libc::ioctl(target.as_raw_fd(), LOOP_CONFIGURE, &raw const config) } == 0 {
        return Ok(target);
    }
    Err(io::Error::last_os_error())
        .with_context(|| format!("cannot attach {} to {}", file.display(), device.display()))
}

/// Detaches the file of a device, now or when the device is no longer used.
pub fn detach(device: &Path) -> io::Result<()> {
    let open = File::open(device)?;
    // SAFETY: the call has no argument.
    match unsafe { libc::ioctl(open.as_raw_fd(), LOOP_CLR_FD) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Returns all devices with a file, by number.
#[must_use]
pub fn attached() -> Vec<Attached> {
    let entries = fs::read_dir(SYSFS).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut numbers: Vec<u32> =
        names.filter_map(|name| name.strip_prefix("loop")?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers.into_iter().filter_map(of_device).collect()
}

fn of_device(number: u32) -> Option<Attached> {
    let file = format!("{SYSFS}/loop{number}/loop/backing_file");
    let path = fs::read_to_string(file).ok()?.trim_end().to_owned();
    let device = PathBuf::from(format!("/dev/loop{number}"));
    let (number, inode) = status(&device).unwrap_or_default();
    Some(Attached { device, file: (number, inode, path) })
}

fn status(device: &Path) -> Option<(u64, u64)> {
    let open = File::open(device).ok()?;
    let mut info = Info::EMPTY;
    // SAFETY: the kernel writes a `struct loop_info64`, which lives until the call returns.
    let result = unsafe { libc::ioctl(open.as_raw_fd(), LOOP_GET_STATUS64, &raw mut info) };
    (result == 0).then_some((info.device, info.inode))
}

/// Returns a path as the kernel reports it, without links.
pub fn kernel_path(file: &Path) -> Result<CString> {
    let path = file.canonicalize().with_context(|| format!("cannot find {}", file.display()))?;
    Ok(CString::new(path.into_os_string().into_encoded_bytes())?)
}

#[cfg(test)]
mod tests {
    use std::mem::size_of;

    use super::{Config, Info, Options};

    #[test]
    fn the_structures_have_the_kernels_sizes() {
        assert_eq!((size_of::<Info>(), size_of::<Config>()), (232, 304));
    }

    #[test]
    fn options_are_flags_of_the_kernel() {
        assert_eq!(Options::default().flags(), 0);
        let all = Options {
            read_only: true,
            auto_clear: true,
            partitions: true,
            direct: true,
            offset: 1,
            size: 1,
        };
        assert_eq!(all.flags(), 1 + 4 + 8 + 16);
    }
}
