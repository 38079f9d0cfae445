//! Switches from the archive that the kernel unpacked to the read-only root.
//!
//! The root is an erofs, mounted from a file in ramfs without a loop device. `pivot_root` refuses
//! the kernel's first root, so the erofs is moved over `/`. A privileged container can climb out to
//! the first root below, so that root is emptied: everything is unlinked, even PID 1's own file.
//!
//! PID 1 keeps executing from the unlinked file. Its pages belong to ramfs and cannot be evicted,
//! so PID 1 never waits for its own code when memory runs out.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use kiln_contract::{archive, path};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use super::archive::Loading;
use super::proof::Root;
use crate::console::kmsg;
use crate::kernel::mount;
use crate::machine::credential::{Credentials, Source};

/// The mount point of the erofs until it is moved over `/`.
const NEW: &str = "/sysroot";

/// A ramfs for the archive's files if the kernel unpacked the archive into a tmpfs.
const COPY: &str = "/ramfs";

/// `TMPFS_MAGIC` of the kernel's include/uapi/linux/magic.h.
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// The first root, below the erofs.
#[derive(Debug)]
pub struct First(OwnedFd);

/// Mounts the root, reads the credentials next to the UKI, and moves the root over `/`.
pub fn switch(modules: &Loading) -> Result<(Root, First, Credentials)> {
    modules.wait_for_root()?;
    let archive = if is_tmpfs()? { copy_to_ramfs()? } else { "" };
    mount_images(archive)?;
    fill_run()?;
    let credentials = credentials_of_stub();
    for folder in ["/dev", "/proc", "/sys"] {
        let target = format!("{NEW}{folder}");
        rustix::mount::mount_move(folder, &target)
            .with_context(|| format!("cannot move {folder} to {target}"))?;
    }
    let below = open_folder("/").context("cannot open the first root")?;
    if !archive.is_empty() {
        rustix::mount::unmount(COPY, rustix::mount::UnmountFlags::DETACH)
            .context("cannot detach /ramfs")?;
    }
    move_over()?;
    Ok((Root(()), First(below), credentials))
}

impl First {
    /// Unlinks everything in it.
    pub fn empty(self) {
        let _ = kmsg::warn_on_error(empty(self.0.as_fd()).context("cannot empty the first root"));
    }
}

/// True if load options replaced the image's command line, and with it `rootfstype=ramfs`.
fn is_tmpfs() -> Result<bool> {
    let tmpfs = rustix::fs::statfs("/").context("cannot stat /")?.f_type == TMPFS_MAGIC;
    if tmpfs {
        let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
        kmsg::warn(format_args!("foreign command line, not the image's: {}", line.trim()));
    }
    Ok(tmpfs)
}

/// Copies both images to a ramfs, because erofs refuses files on tmpfs (ENOTBLK).
fn copy_to_ramfs() -> Result<&'static str> {
    fs::create_dir(COPY).context("cannot make /ramfs")?;
    rustix::mount::mount("ramfs", COPY, "ramfs", MountFlags::NODEV, None)
        .context("cannot mount ramfs")?;
    for image in [archive::ROOT, archive::PODS] {
        if Path::new(image).exists() {
            fs::copy(image, format!("{COPY}{image}"))
                .with_context(|| format!("cannot copy {image}"))?;
            fs::remove_file(image).with_context(|| format!("cannot remove {image}"))?;
        }
    }
    Ok(COPY)
}

fn mount_images(archive: &str) -> Result<()> {
    fs::create_dir(NEW).context("cannot make /sysroot")?;
    mount_erofs(&format!("{archive}{}", archive::ROOT), NEW)?;
    let pods = format!("{archive}{}", archive::PODS);
    if Path::new(&pods).exists() {
        mount_erofs(&pods, &format!("{NEW}{}", path::PODS))?;
    } else {
        kmsg::warn("the image has no pods");
    }
    Ok(())
}

fn mount_erofs(file: &str, target: &str) -> Result<()> {
    let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
    rustix::mount::mount(file, target, "erofs", flags, None)
        .with_context(|| format!("cannot mount {file} on {target}"))
}

/// Mounts `/run` in the new root and makes the folders of credentials.
fn fill_run() -> Result<()> {
    mount::tmpfs("/run", "").attach(&format!("{NEW}/run"), "mode=0755,size=20%")?;
    fs::create_dir(format!("{NEW}/run/kiln")).context("cannot make /run/kiln")?;
    for folder in [path::CREDENTIALS, path::LATE_CREDENTIALS] {
        let folder = format!("{NEW}{folder}");
        fs::create_dir(&folder).with_context(|| format!("cannot make {folder}"))?;
        mount::tmpfs("", "").attach(&folder, "mode=0700,size=8m")?;
    }
    Ok(())
}

/// Reads the `NAME.cred` files that the EFI stub found next to the image (systemd-stub(7)). Those
/// for one image come before those for all.
fn credentials_of_stub() -> Credentials {
    let mut credentials = Credentials::default();
    for folder in ["credentials", "global_credentials"] {
        let folder = Path::new(archive::STUB_FILES).join(folder);
        credentials.add_folder(Source::Esp, &folder, |name| {
            Some(name.strip_suffix(".cred").unwrap_or(name))
        });
    }
    credentials
}

/// Moves the mount at [`NEW`] over `/` and makes it this process' root, as `switch_root(8)` does.
///
/// Kernel threads share PID 1's root and follow, so the kernel's calls to modprobe do too.
fn move_over() -> Result<()> {
    rustix::process::chdir(NEW).context("cannot change to /sysroot")?;
    rustix::mount::mount_move(".", "/").context("cannot move the root over /")?;
    rustix::process::chroot(".").context("cannot change the root")?;
    rustix::process::chdir("/").context("cannot change to /")
}

fn open_folder(path: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Removes everything below `root`, which has no mount points left, and makes it read-only.
fn empty(root: rustix::fd::BorrowedFd<'_>) -> Result<()> {
    remove_children(root)?;
    if Dir::read_from(root)?.flatten().any(|entry| !is_dot(&entry)) {
        bail!("a file is left");
    }
    // Only for tidiness: a process that reaches it can remount it. This makes the mount
    // read-only; the file system refuses as long as unlinked files are in use.
    let link = format!("/proc/self/fd/{}", rustix::fd::AsRawFd::as_raw_fd(&root));
    rustix::mount::mount_remount(&link, MountFlags::BIND | MountFlags::RDONLY, c"")
        .context("cannot remount it read-only")?;
    Ok(())
}

fn remove_children(folder: rustix::fd::BorrowedFd<'_>) -> Result<()> {
    for entry in Dir::read_from(folder)?.flatten().filter(|entry| !is_dot(entry)) {
        let name = entry.file_name();
        let flags = match unlink_kind(folder, &entry)? {
            FileType::Directory => {
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let child = rustix::fs::openat(folder, name, flags, Mode::empty())?;
                remove_children(child.as_fd())?;
                AtFlags::REMOVEDIR
            }
            _ => AtFlags::empty(),
        };
        rustix::fs::unlinkat(folder, name, flags)
            .with_context(|| format!("cannot unlink {name:?}"))?;
    }
    Ok(())
}

fn unlink_kind(
    folder: rustix::fd::BorrowedFd<'_>,
    entry: &rustix::fs::DirEntry,
) -> Result<FileType, Errno> {
    match entry.file_type() {
        FileType::Unknown => {
            let stat = rustix::fs::statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(FileType::from_raw_mode(stat.st_mode))
        }
        kind => Ok(kind),
    }
}

fn is_dot(entry: &rustix::fs::DirEntry) -> bool {
    matches!(entry.file_name().to_bytes(), b"." | b"..")
}

#[cfg(test)]
mod tests {
    use super::{open_folder, remove_children};
    use std::os::fd::AsFd;

    #[test]
    fn everything_is_removed_and_links_are_not_followed() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("kept"), "").unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("a/b")).unwrap();
        std::fs::write(folder.path().join("a/b/c"), "").unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("link")).unwrap();
        let fd = open_folder(folder.path().to_str().unwrap()).unwrap();
        remove_children(fd.as_fd()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(outside.path().join("kept").exists());
    }
}
