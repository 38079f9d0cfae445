//! The mount points, folders and links that the read-only root must have.
//!
//! The builder creates them, because nothing can be created in an erofs later. PID 1 relies on
//! them. Folders that packages bring need not be listed.

/// The folders of the root, parents before children, mode 0755, owned by root.
///
/// The first eight and the last two are mount points. `/root` is root's home in `/etc/passwd`. It is
/// empty, and so are the folders from `/boot` to `/srv`, `/usr/local` and `/usr/src`: pods that
/// inspect a host mount them, and containerd could not make them in a read-only root.
pub const FOLDERS: [&str; 28] = [
    "/dev",
    "/etc",
    "/opt",
    "/proc",
    "/run",
    "/sys",
    "/tmp",
    "/var",
    "/boot",
    "/home",
    "/media",
    "/mnt",
    "/srv",
    "/root",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/lib/kiln",
    "/usr/lib/modules",
    "/usr/libexec",
    "/usr/libexec/kubernetes",
    "/usr/local",
    "/usr/share",
    "/usr/share/kiln",
    "/usr/src",
    crate::path::VOLUME_PLUGINS,
    crate::path::PODS,
];

/// The links of the root: path and target.
///
/// `/var/run` is made at boot, because `/var` is writable.
pub const LINKS: [(&str, &str); 5] = [
    ("/bin", "usr/bin"),
    ("/lib", "usr/lib"),
    ("/lib64", "usr/lib64"),
    ("/sbin", "usr/bin"),
    ("/usr/sbin", "bin"),
];

/// The target of each applet in [`crate::path::BIN`]: [`crate::path::INIT`], relative to that
/// folder.
pub const APPLET_TARGET: &str = "../lib/kiln/init";

#[cfg(test)]
mod tests {
    use super::{APPLET_TARGET, FOLDERS, LINKS};
    use crate::path;

    #[test]
    fn parents_come_before_children() {
        for (index, folder) in FOLDERS.iter().enumerate() {
            let parent = folder.rsplit_once('/').map_or("", |(parent, _)| parent);
            assert!(parent.is_empty() || FOLDERS[..index].contains(&parent), "{folder}");
        }
    }

    #[test]
    fn no_link_takes_a_folders_name() {
        assert!(LINKS.iter().all(|(link, _)| !FOLDERS.contains(link)));
    }

    #[test]
    fn applets_point_to_the_binary() {
        assert_eq!(path::INIT, APPLET_TARGET.replacen("..", "/usr", 1));
    }
}
