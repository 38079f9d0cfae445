//! EFI variables, through efivarfs (Documentation/filesystems/efivarfs.rst).
//!
//! Only helpers use it, because the firmware writes a variable and may be slow. The node's efivarfs
//! is read-only; a helper that writes mounts it again in a mount namespace of its own.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change, mount_remount};
use rustix::thread::UnshareFlags;

/// Kiln's vendor GUID, chosen at random.
const VENDOR: &str = "cb77f67e-b18f-4b11-8888-435c07ec91e0";

/// The folder of the variables, if the machine was started by UEFI.
const FOLDER: &str = "/sys/firmware/efi/efivars";

/// The longest value that [`read`] returns, in bytes.
const VALUE_MAX: u64 = 1024;

/// Non-volatile, and visible at boot and at run time: the UEFI Specification's attributes 1, 2, 4.
const ATTRIBUTES: [u8; 4] = 7_u32.to_le_bytes();

/// `FS_IOC_GETFLAGS`, `FS_IOC_SETFLAGS` and `FS_IMMUTABLE_FL` of include/uapi/linux/fs.h.
const GET_FLAGS: libc::c_ulong = 0x8008_6601;
const SET_FLAGS: libc::c_ulong = 0x4008_6602;
const IMMUTABLE: libc::c_int = 0x10;

/// True if the machine has EFI variables.
#[must_use]
pub fn offered() -> bool {
    fs::exists("/sys/firmware/efi").unwrap_or(false)
}

fn file(name: &str, vendor: &str) -> PathBuf {
    PathBuf::from(format!("{FOLDER}/{name}-{vendor}"))
}

/// Reads the beginning of another vendor's variable. Returns `None` if there is no such variable.
/// For helpers.
pub fn read(name: &str, vendor: &str) -> Result<Option<Vec<u8>>> {
    let file = file(name, vendor);
    // The node's own mount is made in parallel and may be missing now.
    if fs::read_dir(FOLDER).is_ok_and(|mut folder| folder.next().is_none()) {
        mount_private(SAFE.union(MountFlags::RDONLY))?;
    }
    let variable = match File::open(&file) {
        Ok(variable) => variable,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot open {}", file.display())),
    };
    let mut bytes = Vec::new();
    let read = variable.take(VALUE_MAX).read_to_end(&mut bytes);
    read.with_context(|| format!("cannot read {}", file.display()))?;
    Ok(bytes.get(ATTRIBUTES.len()..).map(<[u8]>::to_vec))
}

/// Writes a variable. The firmware stores it completely or not at all. For helpers.
pub fn write(name: &str, value: &[u8]) -> Result<()> {
    mount_writable()?;
    let file = file(name, VENDOR);
    make_mutable(&file);
    let bytes = [&ATTRIBUTES, value].concat();
    let mut variable = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&file)
        .with_context(|| format!("cannot open {}", file.display()))?;
    // One write system call makes one variable.
    let written =
        variable.write(&bytes).with_context(|| format!("cannot write {}", file.display()))?;
    anyhow::ensure!(written == bytes.len(), "cannot write {}: cut off", file.display());
    Ok(())
}

/// Reads and deletes a variable. Returns `None` if there is no such variable. For helpers.
pub fn take(name: &str) -> Result<Option<Vec<u8>>> {
    mount_writable()?;
    let file = file(name, VENDOR);
    let bytes = match fs::read(&file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    make_mutable(&file);
    fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    Ok(Some(bytes.get(ATTRIBUTES.len()..).unwrap_or_default().to_vec()))
}

/// The flags of every mount of variables.
const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

fn mount_writable() -> Result<()> {
    mount_private(SAFE)?;
    // The node's mount is read-only, and so is the file system if that mount came first. The
    // node's mount stays read-only.
    mount_remount(FOLDER, SAFE, c"").context("cannot make efivarfs writable")
}

/// Mounts the variables in a mount namespace of the helper, which ends with the helper.
fn mount_private(flags: MountFlags) -> Result<()> {
    // SAFETY: a helper has one thread, and the flag does not touch its descriptors.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
        .context("cannot unshare mounts")?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).context("cannot make all mounts private")?;
    match mount("efivarfs", FOLDER, "efivarfs", flags, None) {
        // A file system that is mounted here already cannot be mounted over itself.
        Ok(()) | Err(Errno::BUSY) => {}
        Err(error) => return Err(error).context("cannot mount efivarfs"),
    }
    Ok(())
}

/// Variables of vendors that the kernel does not know are immutable once they exist.
fn make_mutable(file: &PathBuf) {
    let Ok(variable) = File::open(file) else { return };
    let mut flags: libc::c_int = 0;
    // SAFETY: the kernel stores an int, although the request's number says long (ioctl_iflags(2)).
    if unsafe { libc::ioctl(variable.as_raw_fd(), GET_FLAGS as _, &raw mut flags) } == 0 {
        flags &= !IMMUTABLE;
        // SAFETY: the kernel reads an int.
        unsafe { libc::ioctl(variable.as_raw_fd(), SET_FLAGS as _, &raw const flags) };
    }
}
