//! One package's container image, without the rest of the node.

use anyhow::{Context, Result};

use super::{Builder, image_files};
use crate::assemble::pods;
use crate::image::oci::{self, Layout};
use crate::plan::{PACKER, staged};

impl Builder {
    /// Makes the container image of a listed package.
    pub fn container_image(&self, name: &str) -> Result<Layout> {
        let package = self.config.package(name);
        package.image().with_context(|| {
            let file = package.folder.join("pkg.toml");
            format!("{}: there is no [output.image] table", file.display())
        })?;
        let mut goals = vec![staged(name)];
        goals.extend(package.base().map(staged));
        if package.packs().next().is_some() {
            goals.push(PACKER.to_owned());
        }
        let goals: Vec<&str> = goals.iter().map(String::as_str).collect();
        let made = self.make(&goals)?;
        let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
        let files = image_files(name, self, &made, scratch.path())?;
        let image = pods::image(&self.config, &files)?;
        let platform =
            oci::Platform { architecture: self.config.arch.go(), created: self.config.date };
        oci::layout(&[image], platform)
    }
}
