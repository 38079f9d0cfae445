//! A package: the source of its files, and their destination.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::image::Image;
use super::raw;
use crate::arch::Arch;
use crate::lock::Request;
use crate::source::{Smoke, Source};
use crate::text::{Read, Text};

/// One `pkgs/NAME/pkg.toml`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// The folder's name.
    pub name: String,
    /// The folder that holds `pkg.toml`, `go.mod` and the like.
    pub folder: PathBuf,
    /// One sentence.
    pub about: String,
    /// An SPDX expression.
    pub license: String,
    /// The source of the files.
    pub source: Source,
    /// The destination of the files.
    pub output: Output,
    /// The command that tests the built program.
    pub smoke: Option<Smoke>,
}

/// The destination of a package's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// An input of other steps only.
    Input,
    /// Into the host's root: staged path → path in the root.
    Rootfs(BTreeMap<String, String>),
    /// Into a container image.
    Image(Image),
    /// Programs that the builder runs: name → path in the unpacked package.
    Host(BTreeMap<String, String>),
}

impl Package {
    /// Returns its container image, if it makes one.
    pub fn image(&self) -> Option<&Image> {
        if let Output::Image(image) = &self.output { Some(image) } else { None }
    }

    /// Returns the package whose files its container image starts with.
    pub fn base(&self) -> Option<&str> {
        self.image()?.base.as_deref()
    }

    /// Returns the folders that go into the image as packs of the static server, with their paths
    /// there.
    pub fn packs(&self) -> impl Iterator<Item = (&String, &String)> {
        self.image().into_iter().flat_map(|image| &image.packs)
    }

    /// Returns the layer that the package was found in.
    pub fn layer(&self) -> &Path {
        // LAYER/pkgs/NAME
        self.folder.ancestors().nth(2).unwrap_or(Path::new(""))
    }

    /// Checks one pkg.toml.
    pub(super) fn parse(text: &Text, name: &str, arch: Arch) -> Result<Self> {
        let raw: raw::Package = text.toml()?;
        let source = Source::check(&raw.source, text, arch)?;
        let output = output(text, name, &raw)?;
        Ok(Self {
            name: name.to_owned(),
            folder: text.folder().to_owned(),
            about: raw.about,
            license: raw.license,
            source,
            output,
            smoke: raw.smoke.map(|smoke| Smoke { command: smoke.command, expect: smoke.expect }),
        })
    }
}

/// Returns the names of Debian packages that `update` resolves for a pkg.toml, for every
/// architecture.
pub fn debian_requests(read: Read<'_>, path: &Path) -> Result<Vec<Request>> {
    let raw: raw::Package = Text::read(read, path)?.toml()?;
    Ok(raw.source.get_ref().requests())
}

fn output(text: &Text, name: &str, raw: &raw::Package) -> Result<Output> {
    let Some(table) = &raw.output else { return Ok(Output::Input) };
    match table.get_ref().clone() {
        raw::OutputTable { rootfs: Some(files), image: None, host: None } => {
            Ok(Output::Rootfs(files))
        }
        raw::OutputTable { rootfs: None, image: Some(image), host: None } => {
            Ok(Output::Image(Image::parse(text, name, image)?))
        }
        raw::OutputTable { rootfs: None, image: None, host: Some(programs) } => {
            Ok(Output::Host(programs))
        }
        _ => Err(text.error(
            table,
            "a package has at most one of [output.rootfs], [output.image] and [output.host]",
        )),
    }
}
