//! The links that Kiln made: one file below `/run` for each device, and the links themselves.
//!
//! A link of another program (a privileged pod with a udev of its own) is never removed. If two
//! devices have the same link, such as a copy of a file system, the first device by name has it, and
//! the second one gets it when the first is gone.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The links of each device, as paths below `/dev/disk`.
pub(super) type Links = BTreeMap<String, Vec<String>>;

/// Reads the recorded links of all devices.
pub(super) fn load(folder: &Path) -> Links {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let of = |entry: fs::DirEntry| {
        let links = fs::read_to_string(entry.path()).ok()?;
        Some((entry.file_name().into_string().ok()?, links.lines().map(str::to_owned).collect()))
    };
    entries.filter_map(of).collect()
}

/// Records the links of all devices, and makes `disk` match.
pub(super) fn store(folder: &Path, disk: &Path, old: &Links, new: &Links) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (device, links) in new.iter().filter(|(device, links)| old.get(*device) != Some(links)) {
        let file = folder.join(device);
        let text: String = links.iter().flat_map(|link| [link, "\n"]).collect();
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let (had, has) = (targets(old), targets(new));
    for (link, target) in &had {
        if !has.contains_key(link) {
            remove(&disk.join(link), target).with_context(|| format!("cannot remove {link}"))?;
        }
    }
    for (link, target) in &has {
        let replaceable = had.get(link);
        make(&disk.join(link), target, replaceable)
            .with_context(|| format!("cannot make {link}"))?;
    }
    for device in old.keys().filter(|device| !new.contains_key(*device)) {
        let _ = fs::remove_file(folder.join(device));
    }
    Ok(())
}

/// Returns each link with its target.
fn targets(links: &Links) -> BTreeMap<&str, PathBuf> {
    let mut targets = BTreeMap::new();
    for (device, links) in links {
        for link in links {
            targets.entry(link.as_str()).or_insert_with(|| Path::new("../..").join(device));
        }
    }
    targets
}

fn remove(link: &Path, target: &Path) -> io::Result<()> {
    if fs::read_link(link).is_ok_and(|is| is == target) {
        fs::remove_file(link)?;
        // A folder with other links stays.
        let _ = link.parent().map(fs::remove_dir);
    }
    Ok(())
}

/// Makes a link. An existing link is replaced only if it has the target of an earlier link of ours.
fn make(link: &Path, target: &Path, replaceable: Option<&PathBuf>) -> io::Result<()> {
    match fs::read_link(link) {
        Ok(is) if is == target => Ok(()),
        Ok(is) if Some(&is) != replaceable => Ok(()),
        Err(error) if error.kind() != ErrorKind::NotFound => Ok(()),
        _ => {
            link.parent().map(fs::create_dir_all).transpose()?;
            let new = link.with_file_name(".kiln-new");
            let _ = fs::remove_file(&new);
            symlink(target, &new)?;
            fs::rename(&new, link)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::{Links, load, store};

    fn links(all: &[(&str, &[&str])]) -> Links {
        let owned = |links: &[&str]| links.iter().map(|&link| link.to_owned()).collect();
        all.iter().map(|(device, links)| ((*device).to_owned(), owned(links))).collect()
    }

    fn target(disk: &Path, link: &str) -> Option<String> {
        Some(fs::read_link(disk.join(link)).ok()?.to_str()?.to_owned())
    }

    #[test]
    fn links_follow_the_devices() {
        let (run, dev) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (run, disk) = (run.path(), dev.path());
        let two = links(&[("sda", &["by-id/a", "by-uuid/x"]), ("sdb", &["by-id/b", "by-uuid/x"])]);
        store(run, disk, &load(run), &two).unwrap();
        assert_eq!(load(run), two);
        assert_eq!(target(disk, "by-uuid/x").as_deref(), Some("../../sda"));
        // The copy gets the link when the first disk is gone.
        let one = links(&[("sdb", &["by-id/b", "by-uuid/x"])]);
        store(run, disk, &load(run), &one).unwrap();
        assert_eq!(target(disk, "by-uuid/x").as_deref(), Some("../../sdb"));
        assert_eq!(target(disk, "by-id/a"), None);
        store(run, disk, &load(run), &links(&[])).unwrap();
        assert_eq!(fs::read_dir(disk).unwrap().count(), 0, "empty folders are removed");
        assert_eq!(load(run), links(&[]));
    }

    #[test]
    fn links_of_another_program_stay() {
        let (run, dev) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (run, disk) = (run.path(), dev.path());
        fs::create_dir(disk.join("by-id")).unwrap();
        symlink("../../dm-7", disk.join("by-id/a")).unwrap();
        let one = links(&[("sda", &["by-id/a", "by-id/b"])]);
        store(run, disk, &load(run), &one).unwrap();
        assert_eq!(target(disk, "by-id/a").as_deref(), Some("../../dm-7"));
        fs::remove_file(disk.join("by-id/b")).unwrap();
        symlink("../../dm-8", disk.join("by-id/b")).unwrap();
        store(run, disk, &load(run), &links(&[])).unwrap();
        assert_eq!(target(disk, "by-id/b").as_deref(), Some("../../dm-8"));
    }
}
