//! A privileged container that climbs out of its root, and a check that this gains it nothing.
//!
//! Below every container's root lies the root into which the kernel unpacked its archive. A process can
//! remove the mount above with `umount("/")`, and when it then enters its own mount namespace again, its
//! root becomes the one below (`mntns_install()` in the kernel's `fs/namespace.c`). The kernel cannot
//! forbid this to `CAP_SYS_ADMIN`. The root below must therefore be empty, and no host process may read
//! it.
//!
//! The escape plants traps there: programs that leave a mark when they are executed ([`crate::trap`]),
//! and files that are watched for being opened. Then it makes the kernel call its helper and PID 1 start
//! a host process, and reports the result. On a node without a weakness every line is the same.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::fs::{Mode, OFlags, RawDir, statfs};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::{node, trap};

/// Programs that the kernel (`kernel/umh.c` and its callers) or PID 1 executes by these paths.
const PROGRAMS: [&str; 9] = [
    "/init",
    "/sbin/init",
    "/sbin/modprobe",
    "/sbin/poweroff",
    "/sbin/request-key",
    "/usr/bin/containerd",
    "/usr/bin/kubelet",
    "/usr/bin/modprobe",
    "/usr/lib/kiln/init",
];

/// Files that a host process could mistake for the host's.
const FILES: [&str; 6] = [
    "/etc/hostname",
    "/etc/ld.so.preload",
    "/etc/modprobe.d/planted.conf",
    "/etc/passwd",
    "/etc/kubernetes/manifests/planted.yaml",
    "/root.erofs",
];

/// A protocol family that the kernel lacks (`AF_APPLETALK`); `socket(2)` requests the module `net-pf-5`.
const NO_FAMILY: u16 = 5;

/// A file system whose module is in the root and not loaded.
const MODULE: &str = "squashfs";

/// The host process that PID 1 has to restart.
const VICTIM: &str = "kubelet";

/// The longest time for the restart; PID 1's longest pause between two starts is shorter.
const RESTART_TIME_MAX: Duration = Duration::from_mins(3);

/// A file that must still exist at the end, so that "nothing was opened" has a meaning.
const PLANTED: &str = PROGRAMS[0];

/// The kernel's `RAMFS_MAGIC` and `TMPFS_MAGIC` (`include/uapi/linux/magic.h`).
const RAMFS: u64 = 0x8584_58f6;
const TMPFS: u64 = 0x0102_1994;

/// Escapes and reports on standard output.
pub(crate) fn run() -> Result<()> {
    let program = fs::read("/proc/self/exe").context("cannot read this program")?;
    climb_out()?;
    println!("reached {}", reached()?);
    make_writable()?;
    plant(&program)?;
    let watch = watch()?;
    check_traps(&watch)?;
    call_helper()?;
    restart_victim()?;
    report(&watch)
}

fn climb_out() -> Result<()> {
    // SAFETY: this process has one thread, and the flag does not touch its file descriptors.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.context("cannot unshare the mount namespace")?;
    let namespace =
        fs::File::open("/proc/self/ns/mnt").context("cannot open the mount namespace")?;
    unmount("/", UnmountFlags::DETACH).context("cannot unmount /")?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
        .context("cannot enter the mount namespace again")
}

/// Describes the root below: its file system and its entries.
fn reached() -> Result<String> {
    let kind = match u64::try_from(statfs("/").context("cannot query the file system of /")?.f_type)
    {
        Ok(RAMFS) => "ramfs".to_owned(),
        Ok(TMPFS) => "tmpfs".to_owned(),
        other => format!("a file system {other:x?}"),
    };
    let names = names("/")?;
    Ok(if names.is_empty() {
        format!("an empty {kind}")
    } else {
        format!("a {kind} with {}", names.join(" "))
    })
}

fn names(dir: &str) -> Result<Vec<String>> {
    let folder = rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
        .context("cannot open /")?;
    let mut buffer = Vec::with_capacity(4096);
    let mut entries = RawDir::new(&folder, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let name = entry.context("cannot read /")?.file_name().to_string_lossy().into_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Removes every read-only flag, of the mount and of the file system.
fn make_writable() -> Result<()> {
    mount_remount("/", MountFlags::BIND, "").context("cannot remount the mount")?;
    mount_remount("/", MountFlags::empty(), "").context("cannot remount the file system")
}

fn plant(program: &[u8]) -> Result<()> {
    for path in PROGRAMS.iter().chain(&FILES) {
        let path = Path::new(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot create {}", parent.display()))?;
        }
        fs::write(path, program).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    println!("planted {} files", PROGRAMS.len() + FILES.len());
    Ok(())
}

/// Watches the planted files. Opening or executing one causes an event, by any path and from any
/// namespace.
fn watch() -> Result<OwnedFd> {
    let watch = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)
        .context("cannot start inotify")?;
    for path in PROGRAMS.iter().chain(&FILES) {
        inotify::add_watch(&watch, *path, WatchFlags::OPEN | WatchFlags::ACCESS)
            .with_context(|| format!("cannot watch {path}"))?;
    }
    Ok(watch)
}

/// Springs one trap, to prove that the traps work.
fn check_traps(watch: &OwnedFd) -> Result<()> {
    #[expect(clippy::disallowed_methods, reason = "the rule is the builder's")]
    let status = Command::new(PLANTED).status().context("cannot execute a planted program")?;
    let mark = format!("{}init", trap::MARK);
    fs::remove_file(&mark)
        .with_context(|| format!("{PLANTED} exited with {status} and left no mark"))?;
    if events(watch)? == 0 {
        bail!("{PLANTED} was executed without an event");
    }
    println!("the traps work");
    Ok(())
}

/// Makes the kernel execute its module loader twice: for a module that is missing, and for one that the
/// host has.
fn call_helper() -> Result<()> {
    if socket(AddressFamily::from_raw(NO_FAMILY), SocketType::DGRAM, None).is_ok() {
        bail!("the kernel has protocol family {NO_FAMILY} and did not request a module");
    }
    fs::create_dir_all("/proc").context("cannot create /proc")?;
    mount("proc", "/proc", "proc", MountFlags::empty(), None).context("cannot mount /proc")?;
    let path =
        fs::read_to_string("/proc/sys/kernel/modprobe").context("cannot read the helper's path")?;
    println!("helper {}", path.trim());
    println!("before {MODULE} {}", known(MODULE)?);
    // The mount fails without a disk, after the kernel has requested the module.
    let _ = mount("none", "/proc", MODULE, MountFlags::empty(), None);
    println!("after {MODULE} {}", known(MODULE)?);
    let pattern =
        fs::read_to_string("/proc/sys/kernel/core_pattern").context("cannot read core_pattern")?;
    println!(
        "core dumps go to {}",
        if pattern.starts_with('|') { pattern.trim() } else { "files" }
    );
    Ok(())
}

fn known(kind: &str) -> Result<&'static str> {
    let list = fs::read_to_string("/proc/filesystems").context("cannot read /proc/filesystems")?;
    let found = list.split_ascii_whitespace().any(|word| word == kind);
    Ok(if found { "known" } else { "unknown" })
}

fn restart_victim() -> Result<()> {
    let old = node::find(VICTIM)?.pid;
    node::kill(VICTIM)?;
    let start = Instant::now();
    while start.elapsed() < RESTART_TIME_MAX {
        if node::find(VICTIM).is_ok_and(|process| process.pid != old) {
            println!("{VICTIM} restarted");
            return Ok(());
        }
        thread::sleep(Duration::from_millis(200));
    }
    bail!("{VICTIM} did not restart within {} s", RESTART_TIME_MAX.as_secs())
}

fn report(watch: &OwnedFd) -> Result<()> {
    let mark = trap::MARK.trim_start_matches('/');
    let executed: Vec<String> =
        names("/")?.into_iter().filter(|name| name.starts_with(mark)).collect();
    println!(
        "executed: {}",
        if executed.is_empty() { "nothing".to_owned() } else { executed.join(" ") }
    );
    let events = events(watch)?;
    println!(
        "opened: {}",
        if events == 0 { "nothing".to_owned() } else { format!("{events} times") }
    );
    rustix::fs::access(PLANTED, rustix::fs::Access::EXISTS).context("the planted files are gone")
}

fn events(watch: &OwnedFd) -> Result<usize> {
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(watch, &mut buffer);
    let mut count = 0;
    loop {
        match reader.next() {
            Ok(_) => count += 1,
            Err(rustix::io::Errno::AGAIN) => return Ok(count),
            Err(error) => return Err(error).context("cannot read inotify"),
        }
    }
}
