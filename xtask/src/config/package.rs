//! A package: where its files come from, and where they go.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::arch::Arch;
use super::image::Image;
use super::raw;
use super::text::{Read, Text};
use crate::digest::Digest;
use crate::lock::Request;

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
    /// Where the files come from.
    pub source: Source,
    /// Where they go.
    pub output: Output,
    /// How to see that the built program is the right one.
    pub smoke: Option<Smoke>,
}

/// Where a package's files come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Go programs out of the module proxy.
    Go(Go),
    /// Files out of a Debian package.
    Deb(Request),
    /// A crate of this workspace.
    Crate {
        /// The crate's name, and its binary's.
        package: String,
        /// Features that are switched on.
        features: Vec<String>,
        /// The package with the C library that it is linked with; the compiler's own otherwise.
        libc: Option<String>,
    },
    /// One file from elsewhere.
    Url {
        /// Where it is.
        url: String,
        /// What it is.
        sha256: Digest,
        /// Its length in bytes.
        size: u64,
    },
}

/// How to build Go programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Go {
    /// Output file name → Go package path.
    pub programs: BTreeMap<String, String>,
    /// Build tags.
    pub tags: Vec<String>,
    /// The module whose version fills `${version}`, `${major}` and `${minor}`.
    pub version_of: Option<String>,
    /// Linker variables (`-X`).
    pub variables: BTreeMap<String, String>,
    /// Whether C is compiled; needs a C compiler.
    pub cgo: bool,
    /// Packages whose files are laid out as a sysroot for cgo.
    pub libraries: Vec<String>,
    /// More linker flags.
    pub ldflags: Vec<String>,
}

/// Where a package's files go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Nowhere by itself: an input of other steps.
    Input,
    /// Into the host's root: staged path → path in the root.
    Rootfs(BTreeMap<String, String>),
    /// Into a container image.
    Image(Image),
    /// Programs that the builder runs: name → path in the unpacked package.
    Host(BTreeMap<String, String>),
}

/// A command whose output must contain a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smoke {
    /// Program (a staged name) and arguments.
    pub command: Vec<String>,
    /// What its output must contain.
    pub expect: String,
}

impl Source {
    /// Packages whose unpacked files it is built with.
    pub fn libraries(&self) -> &[String] {
        match self {
            Self::Go(go) => &go.libraries,
            Self::Crate { libc, .. } => libc.as_slice(),
            Self::Deb(_) | Self::Url { .. } => &[],
        }
    }
}

impl Package {
    /// Its container image, if it makes one.
    pub fn image(&self) -> Option<&Image> {
        if let Output::Image(image) = &self.output { Some(image) } else { None }
    }

    /// The package whose files its container image starts with.
    pub fn base(&self) -> Option<&str> {
        self.image()?.base.as_deref()
    }

    /// Folders that go into the image as packs of the static server, with their paths there.
    pub fn packs(&self) -> impl Iterator<Item = (&String, &String)> {
        self.image().into_iter().flat_map(|image| &image.packs)
    }

    /// The layer that the package was found in.
    pub fn layer(&self) -> &Path {
        // LAYER/pkgs/NAME
        self.folder.ancestors().nth(2).unwrap_or(Path::new(""))
    }

    /// Checks one pkg.toml.
    pub(super) fn parse(text: &Text, name: &str, arch: Arch) -> Result<Self> {
        let raw: raw::Package = text.toml()?;
        let source = source(text, &raw, arch)?;
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

/// The `[source.deb]` table of a pkg.toml, for every architecture.
///
/// Only `update` needs it: a lock also pins the packages that the current build does not list.
pub fn debian_requests(read: Read<'_>, path: &Path) -> Result<Vec<Request>> {
    let raw: raw::Package = Text::read(read, path)?.toml()?;
    let Some(deb) = &raw.source.get_ref().deb else { return Ok(Vec::new()) };
    Ok(Arch::ALL.map(|arch| request(deb, arch)).into())
}

fn request(deb: &raw::Deb, arch: Arch) -> Request {
    Request {
        package: deb.package.replace("${debian-arch}", arch.debian()),
        arch: arch.debian().to_owned(),
        closure: deb.closure,
    }
}

fn source(text: &Text, raw: &raw::Package, arch: Arch) -> Result<Source> {
    let table = raw.source.get_ref();
    let count = usize::from(table.go.is_some())
        + usize::from(table.deb.is_some())
        + usize::from(table.crate_.is_some())
        + usize::from(table.url.is_some());
    if count != 1 {
        let cause = format!("a package has exactly one [source.KIND] table, this one has {count}");
        return Err(text.error(&raw.source, cause));
    }
    match table.clone() {
        raw::SourceTable { go: Some(go), .. } => Ok(Source::Go(check_go(text, go)?)),
        raw::SourceTable { deb: Some(deb), .. } => Ok(Source::Deb(request(&deb, arch))),
        raw::SourceTable { crate_: Some(table), .. } => {
            let libc = table.libc.map(toml::Spanned::into_inner);
            Ok(Source::Crate { package: table.package, features: table.features, libc })
        }
        raw::SourceTable { url: Some(url), .. } => remote(text, raw, url, arch),
        _ => bail!("{}: no [source.KIND] table", text.path.display()),
    }
}

fn check_go(text: &Text, go: raw::Go) -> Result<Go> {
    if go.version_of.is_none()
        && let Some(variable) = go.variables.values().find(|value| value.contains("${version}"))
    {
        return Err(text.whole(format!("`{variable}` needs `version-of` in [source.go]")));
    }
    Ok(Go {
        programs: go.programs,
        tags: go.tags,
        version_of: go.version_of.map(toml::Spanned::into_inner),
        variables: go.variables,
        cgo: go.cgo,
        libraries: go.libraries.into_iter().map(toml::Spanned::into_inner).collect(),
        ldflags: go.ldflags,
    })
}

fn remote(text: &Text, raw: &raw::Package, url: raw::Url, arch: Arch) -> Result<Source> {
    let remote = match arch {
        Arch::X86_64 => url.x86_64,
        Arch::Aarch64 => url.aarch64,
    };
    let Some(remote) = remote else {
        return Err(text.error(
            &raw.source,
            format!("[source.url] has nothing for {arch}; add a `{arch}` table"),
        ));
    };
    let sha256 = remote.sha256.get_ref().parse();
    let sha256 =
        sha256.map_err(|_| text.error(&remote.sha256, "sha256 must be 64 hexadecimal digits"))?;
    Ok(Source::Url { url: remote.url, sha256, size: remote.size })
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
            "a package has one of [output.rootfs], [output.image], [output.host], or none",
        )),
    }
}
