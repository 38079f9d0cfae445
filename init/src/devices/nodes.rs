//! Device nodes whose driver is loaded when a program opens them: `/dev/net/tun`, `/dev/kvm` and
//! others.
//!
//! `modules.devname`, which depmod writes, names them with their numbers. The kernel requests the
//! module by its alias (`char-major-10-200`) at the first open. Without the node a pod could not
//! open it, and a driver that is loaded makes the node only then.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use kiln_contract::path::MODULES;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::console::kmsg;

/// The folder of devices.
const DEV: &str = "/dev";

/// The mode of a node that is not in [`OPEN`]: only root may use it.
const MODE: u32 = 0o600;

/// Nodes that any user may open, as on other systems (`rules.d/50-udev-default.rules` of systemd),
/// because the drivers check on their own what a user may do. A container gets such a node only if
/// its pod asks for it.
const OPEN: [&str; 6] = ["fuse", "kvm", "net/tun", "vhost-net", "vhost-vsock", "vfio/vfio"];

/// A line of `modules.devname`.
#[derive(Debug, PartialEq, Eq)]
struct Node<'a> {
    name: &'a str,
    kind: FileType,
    major: u32,
    minor: u32,
}

/// Makes the nodes of all modules in the image, and opens those of [`OPEN`] to any user. A node that
/// cannot be made is a warning.
pub fn make_all() {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let list = Path::new(MODULES).join(release).join("modules.devname");
    let list = fs::read_to_string(list).unwrap_or_default();
    for node in list.lines().filter_map(parse) {
        let _ = kmsg::warn_on_error(make(Path::new(DEV), &node));
    }
    for name in OPEN {
        // A driver that is built in or loaded has made its node itself, for root only.
        let _ = fs::set_permissions(Path::new(DEV).join(name), Permissions::from_mode(0o666));
    }
}

/// Parses `MODULE NAME cMAJOR:MINOR`.
fn parse(line: &str) -> Option<Node<'_>> {
    let mut words = line.split_ascii_whitespace();
    let (_, name, device) = (words.next()?, words.next()?, words.next()?);
    let kind = match device.get(..1)? {
        "c" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        _ => return None,
    };
    let (major, minor) = device[1..].split_once(':')?;
    let inside = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
    let node = Node { name, kind, major: major.parse().ok()?, minor: minor.parse().ok()? };
    inside.then_some(node)
}

fn make(dev: &Path, node: &Node<'_>) -> Result<()> {
    let file = dev.join(node.name);
    if let Some(folder) = file.parent().filter(|folder| *folder != dev) {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let made =
        mknodat(CWD, &file, node.kind, Mode::from_raw_mode(MODE), makedev(node.major, node.minor));
    match made {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot make {}", file.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::FileType;

    use super::{Node, parse};

    #[test]
    fn the_list_of_depmod_is_understood() {
        let node = |name, kind, major, minor| Some(Node { name, kind, major, minor });
        for (line, expected) in [
            ("# Device nodes to trigger on-demand module loading.", None),
            ("tun net/tun c10:200", node("net/tun", FileType::CharacterDevice, 10, 200)),
            ("loop loop-control c10:237", node("loop-control", FileType::CharacterDevice, 10, 237)),
            ("floppy fd0 b2:0", node("fd0", FileType::BlockDevice, 2, 0)),
            ("x ../x c1:1", None),
            ("x y p1:1", None),
            ("x y c1", None),
            ("x y c1:-1", None),
            ("x é", None),
            ("", None),
        ] {
            assert_eq!(parse(line), expected, "{line}");
        }
    }
}
