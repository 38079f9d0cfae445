//! The file systems of `/var` and `/opt`, and files that a boot leaves there for the next one.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::host;
use crate::node::ROOT;

/// The folders that a data partition keeps.
const KEPT: [&str; 2] = ["/var", "/opt"];

/// A file on `/var`, and its content.
const FILE: (&str, &str) = ("/var/lib/kept-by-probe", "kept\n");

/// A program in the folder of CNI plugins: this one, under its own name.
const PLUGIN: &str = "/opt/cni/bin/probe";

/// Lists each folder's kind of file system, its source and its size in MiB.
pub(crate) fn list() -> Result<String> {
    let mounts = fs::read_to_string("/proc/1/mountinfo").context("cannot read PID 1's mounts")?;
    let mut text = String::new();
    for folder in KEPT {
        let (kind, source) = mount(&mounts, folder).with_context(|| format!("no {folder}"))?;
        let size = rustix::fs::statvfs(format!("{ROOT}{folder}").as_str())?;
        let mib = (size.f_blocks * size.f_frsize) >> 20;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{folder} {kind} {source} {mib}");
    }
    Ok(text)
}

/// Returns kind and source of the last mount at a folder (`proc_pid_mountinfo(5)`).
fn mount<'a>(mounts: &'a str, folder: &str) -> Option<(&'a str, &'a str)> {
    let line = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some(folder))?;
    let mut rest = line.split_once(" - ")?.1.split(' ');
    Some((rest.next()?, rest.next()?))
}

/// Writes files for the next boot.
pub(crate) fn keep() -> Result<String> {
    fs::write(format!("{ROOT}{}", FILE.0), FILE.1).with_context(|| FILE.0)?;
    fs::copy("/proc/self/exe", format!("{ROOT}{PLUGIN}")).with_context(|| PLUGIN)?;
    rustix::fs::sync();
    Ok("kept\n".to_owned())
}

/// Checks that the files of an earlier boot are there, and that the plugin can be executed.
pub(crate) fn kept() -> Result<String> {
    let text =
        fs::read_to_string(Path::new(&format!("{ROOT}{}", FILE.0))).with_context(|| FILE.0)?;
    ensure!(text == FILE.1, "{} has other bytes", FILE.0);
    host::must(&["run", PLUGIN, "--version"])?;
    Ok("kept, and the plugin is executable\n".to_owned())
}

#[cfg(test)]
mod tests {
    use super::mount;

    #[test]
    fn the_last_mount_at_a_folder_counts() {
        let mounts = "1 0 0:1 / /opt rw - tmpfs tmpfs rw\n\
                      2 0 8:1 /lib/kiln/opt /opt rw shared:1 - ext4 /dev/vda1 rw\n\
                      3 0 8:1 / /optional rw - xfs /dev/vdb rw\n";
        assert_eq!(mount(mounts, "/opt"), Some(("ext4", "/dev/vda1")));
        assert_eq!(mount(mounts, "/var"), None);
    }
}
