//! The files in `/etc` and `/run` that containerd, kubelet and pods expect.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};
use kiln_contract::path;
use kiln_contract::setting::POD;

use super::proof::{Etc, Tree};
use super::root::First;
use crate::console::kmsg;
use crate::containerd;
use crate::kernel::{network, sysctl};
use crate::kubelet::apply;
use crate::kubelet::plan::{Facts, Plan, plan};
use crate::machine::credential::{self, Credentials};

/// Prepares everything that containerd needs, except `/var`.
pub fn prepare(_: &Tree) -> Result<Etc> {
    let _ = kmsg::warn_on_error(network::loopback_up());
    fill_etc().map(Etc)
}

/// Prepares everything that kubelet and its pods need and containerd does not: static pods, name
/// servers, kernel settings.
///
/// It also empties the first root, so that a privileged pod that climbs out finds nothing there.
pub fn prepare_for_kubelet(below: First, kubelet: &Facts) -> Result<()> {
    below.empty();
    copy_manifests();
    let _ =
        kmsg::warn_on_error(apply::write(&plan(kubelet, &apply::addresses()), &Plan::default()));
    containerd::apply::apply(&Credentials::kept(), &kubelet.settings);
    sysctl::apply(sysctl::When::Boot);
    // kiln-coldplug applies the missing ones.
    let _ = sysctl::apply_own(&kubelet.settings.sysctls);
    make_resolver()
}

/// Makes an empty `resolv.conf`. kubelet reads it for every pod, even for the pod that will obtain
/// the lease.
fn make_resolver() -> Result<()> {
    fs::create_dir_all(path::RESOLVER).context("cannot make the resolver's folder")?;
    let file = format!("{}/resolv.conf", path::RESOLVER);
    fs::write(file, "").context("cannot make an empty resolv.conf")
}

fn fill_etc() -> Result<()> {
    copy_folder(Path::new(path::ETC_SOURCE), Path::new("/etc"))?;
    fs::create_dir_all(path::MANIFESTS).context("cannot make the folder of manifests")?;
    let resolv = format!("{}/resolv.conf", path::RESOLVER);
    if !Path::new("/etc/resolv.conf").exists() {
        let _ = symlink(resolv, "/etc/resolv.conf");
    }
    Ok(())
}

/// Copies files, folders and links. A missing source counts as an empty folder.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).into_iter().flatten() {
        let entry = entry.with_context(|| format!("cannot list {}", from.display()))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            fs::create_dir_all(&target)
                .with_context(|| format!("cannot make {}", target.display()))?;
            copy_folder(&source, &target)?;
        } else if kind.is_symlink() {
            let link = fs::read_link(&source)?;
            symlink(link, &target).with_context(|| format!("cannot link {}", target.display()))?;
        } else {
            fs::copy(&source, &target)
                .with_context(|| format!("cannot copy {}", source.display()))?;
        }
    }
    Ok(())
}

/// Copies the image's static pods, then the credentials `kiln.pod.NAME`, which replace pods of the
/// same name.
///
/// A manifest that cannot be copied does not stop the others. kubelet reports invalid ones.
fn copy_manifests() {
    let target = Path::new(path::MANIFESTS);
    let _ = kmsg::warn_on_error(copy_folder(Path::new(path::BAKED_MANIFESTS), target));
    for name in credential::names(&POD) {
        let _ = kmsg::warn_on_error(apply::copy_pod(&name));
    }
}

#[cfg(test)]
mod tests {
    use super::copy_folder;

    #[test]
    fn folders_are_copied_with_their_links() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(from.path().join("a")).unwrap();
        std::fs::write(from.path().join("a/file"), "text").unwrap();
        std::os::unix::fs::symlink("file", from.path().join("a/link")).unwrap();
        copy_folder(from.path(), to.path()).unwrap();
        assert_eq!(std::fs::read_to_string(to.path().join("a/link")).unwrap(), "text");
        assert_eq!(std::fs::read_link(to.path().join("a/link")).unwrap().to_str(), Some("file"));
    }

    #[test]
    fn a_missing_source_counts_as_an_empty_folder() {
        let to = tempfile::tempdir().unwrap();
        copy_folder(&to.path().join("nothing"), to.path()).unwrap();
    }
}
