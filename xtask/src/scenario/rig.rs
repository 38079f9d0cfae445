//! The tools, files and images that scenarios need.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

use super::disks;
use crate::cluster::Tools;
use crate::digest::Digest;
use crate::host::HostTool;
use crate::qemu::Kernel;

/// The node's port of the probe pod.
pub const PROBE_PORT: u16 = 9090;

/// The tools and folders for every scenario of a run.
#[derive(Debug, Clone)]
pub struct Rig {
    /// `qemu-system-x86_64`.
    pub qemu: HostTool,
    /// OVMF's code.
    pub firmware: PathBuf,
    /// OVMF's empty variables.
    pub variables: PathBuf,
    /// The programs for the file systems of disks.
    pub disks: disks::Tools,
    /// The program that makes discs.
    pub genisoimage: HostTool,
    /// The programs of a cluster, once they were made; only scenarios with a `cluster` need them.
    pub cluster: OnceLock<Tools>,
    /// The NFS server, once it was made; only scenarios with `nfs` need it.
    pub nfs: OnceLock<HostTool>,
    /// The folder for disks and consoles.
    pub scratch: PathBuf,
    /// The folder `tests/vm`.
    pub dir: PathBuf,
}

impl Rig {
    /// The folder of the objects that scenarios apply to their cluster.
    pub fn objects(&self) -> PathBuf {
        self.dir.join("cluster")
    }

    /// The folder of the pages that the probe pod is expected to show.
    pub fn golden(&self) -> PathBuf {
        self.dir.join("golden")
    }
}

/// A finished image.
#[derive(Debug, Clone)]
pub struct Image {
    /// The file that firmware starts.
    pub efi: PathBuf,
    /// The file's parts, which QEMU starts for scenarios with `firmware = false`.
    pub kernel: Kernel,
}

impl Image {
    /// The digest of the file and of its parts.
    fn digest(&self) -> Result<Digest> {
        let mut digests = Vec::new();
        for file in [&self.efi, &self.kernel.image, &self.kernel.archive] {
            digests.extend(Digest::of_file(file)?.to_string().into_bytes());
        }
        Ok(Digest::of_bytes(&digests))
    }
}

/// The finished images that scenarios boot, by the names in their `boot` instructions.
pub type Images = BTreeMap<String, Image>;

/// The digests of images at their first boots, by the names in `boot` instructions.
#[derive(Debug, Default)]
pub struct Digests(BTreeMap<String, Digest>);

impl Digests {
    /// Notes the digest of an image, if it is not known.
    pub fn note(&mut self, name: &str, images: &Images) -> Result<()> {
        if !self.0.contains_key(name) {
            self.0.insert(name.to_owned(), digest(name, images)?);
        }
        Ok(())
    }

    /// Fails if an image has another digest than at its first boot.
    pub fn check(&self, images: &Images) -> Result<()> {
        for (name, before) in &self.0 {
            ensure!(digest(name, images)? == *before, "the image {name} has changed");
        }
        Ok(())
    }
}

fn digest(name: &str, images: &Images) -> Result<Digest> {
    images.get(name).context("the image was not built")?.digest()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_change_of_a_file_or_of_one_of_its_parts_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| fs::write(file(name), text).unwrap();
        let kernel =
            Kernel { image: file("kernel"), archive: file("archive"), cmdline: String::new() };
        let images = Images::from([("a".to_owned(), Image { efi: file("efi"), kernel })]);
        for name in ["efi", "kernel", "archive"] {
            write(name, "first");
        }
        let mut digests = Digests::default();
        digests.note("a", &images).unwrap();
        for name in ["efi", "kernel", "archive"] {
            digests.check(&images).unwrap();
            write(name, "other");
            digests.note("a", &images).unwrap();
            assert!(digests.check(&images).is_err(), "{name}");
            write(name, "first");
        }
    }
}
