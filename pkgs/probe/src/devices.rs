//! The node's devices as its pods see them: links to disks, device nodes, loop devices.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::host;
use crate::node::{self, ROOT};

/// A file for a loop device, and its size.
const FILE: &str = "/var/tmp/probe-loop";
const BYTES: u64 = 16 * 1024 * 1024;

/// Nodes whose drivers are loaded on demand, or that pods of any user open.
const NODES: [&str; 6] = ["fuse", "kvm", "loop-control", "net/tun", "vhost-net", "vhost-vsock"];

/// Folders of the host that pods mount.
const FOLDERS: [&str; 6] = [
    "/boot",
    "/lib/modules",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
    "/usr/libexec/kubernetes/kubelet-plugins",
    "/usr/src",
];

fn on_host(path: &str) -> PathBuf {
    Path::new(ROOT).join(path.trim_start_matches('/'))
}

/// Lists `by-KIND/NAME -> DEVICE`, and ` (missing)` if the device has gone.
pub(crate) fn links() -> Result<String> {
    let mut lines = Vec::new();
    let Ok(kinds) = fs::read_dir(on_host("/dev/disk")) else { return Ok(String::new()) };
    for kind in kinds {
        let kind = kind?;
        for link in fs::read_dir(kind.path())? {
            let link = link?;
            let device = fs::read_link(link.path())?;
            let device = device.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let missing = if on_host("/dev").join(&device).exists() { "" } else { " (missing)" };
            let (kind, name) = (kind.file_name(), link.file_name());
            let name = format!("{}/{}", kind.to_string_lossy(), name.to_string_lossy());
            lines.push(format!("{name} -> {device}{missing}"));
        }
    }
    lines.sort();
    Ok(node::text(&lines))
}

/// Lists the nodes with their modes, and the folders with the kind of their file system.
pub(crate) fn nodes() -> String {
    let mut lines = Vec::new();
    for name in NODES {
        let mode = fs::metadata(on_host("/dev").join(name)).ok();
        let mode = mode.filter(|node| node.file_type().is_char_device());
        let mode = mode.map(|node| format!("{:o}", node.permissions().mode() & 0o777));
        lines.push(format!("/dev/{name} {}", mode.as_deref().unwrap_or("missing")));
    }
    for name in FOLDERS {
        let folder = fs::metadata(on_host(name)).is_ok_and(|folder| folder.is_dir());
        lines.push(format!("{name} {}", if folder { "folder" } else { "missing" }));
    }
    let file = on_host("/usr/libexec/kubernetes/kubelet-plugins/probe");
    let written = fs::write(&file, "").and_then(|()| fs::remove_file(&file));
    lines.push(format!(
        "kubelet-plugins {}",
        if written.is_ok() { "writable" } else { "read-only" }
    ));
    node::text(&lines)
}

/// Opens a node, which has the kernel load its driver.
pub(crate) fn open(name: &str) -> Result<String> {
    let node = on_host("/dev").join(name);
    File::options()
        .read(true)
        .write(true)
        .open(&node)
        .with_context(|| format!("{}", node.display()))?;
    Ok(format!("opened /dev/{name}\n"))
}

/// Has the host's `losetup` attach a file as kubelet does, writes through the device, and detaches it.
pub(crate) fn loop_device() -> Result<String> {
    let file = on_host(FILE);
    File::create(&file).and_then(|file| file.set_len(BYTES)).context("cannot make the file")?;
    host::must(&["run", "/usr/bin/losetup", "-f", FILE])?;
    let listed = losetup(&["-j", FILE])?;
    let device = listed.split(':').next().unwrap_or_default().to_owned();
    let size =
        fs::read_to_string(format!("/sys/class/block/{}/size", device.trim_start_matches("/dev/")));
    let size: u64 = size.context("the device has no size")?.trim().parse()?;
    ensure!(size * 512 == BYTES, "{device} has {size} sectors");
    fs::write(on_host(&device), "through the device").context("cannot write to the device")?;
    File::open(on_host(&device))?.sync_all()?;
    ensure!(fs::read(&file)?.starts_with(b"through the device"), "the file was not written");
    host::must(&["run", "/usr/bin/losetup", "-d", &device])?;
    ensure!(losetup(&["-j", FILE])?.is_empty(), "{device} still has its file");
    let inode = fs::metadata(&file)?.ino();
    ensure!(listed.contains(&format!(":{inode} ({FILE})")), "unexpected line {listed:?}");
    fs::remove_file(&file)?;
    Ok(format!("attached and detached {device}\n"))
}

fn losetup(words: &[&str]) -> Result<String> {
    let output = host::ask(&[&["run", "/usr/bin/losetup"], words].concat())?;
    ensure!(output.status.success(), "losetup: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
