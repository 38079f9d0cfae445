//! The interface between a kind of source and the stages of a build.
//!
//! A kind is one file next to this one, and `mod.rs` lists it. Each stage calls one function of it:
//! `config` the check of its table, `inputs` [`Kind::look`], `plan` [`Kind::plan`], `build`
//! [`Kind::fetch`] and [`Kind::stage`], and the report [`Kind::version`].

use std::fmt::Display;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail};
use xshell::cmd;

use super::cargo;
use crate::arch::Arch;
use crate::cache::Cache;
use crate::digest::Digest;
use crate::lock::{Locked, Locks};
use crate::process::{Command, shell};
use crate::progress::Progress;
use crate::text::Text;

/// One kind of source, with the table of one package.
pub trait Kind {
    /// Returns the packages whose staged files the source is built with.
    fn libraries(&self) -> &[String] {
        &[]
    }

    /// Reads the facts that planning needs from disk and host; nothing if the table is sufficient.
    fn look(
        &self,
        package: &Subject<'_>,
        workspace: &Path,
        toolchain: &mut Toolchain,
    ) -> Result<Option<Facts>> {
        let _ = (package, workspace, toolchain);
        Ok(None)
    }

    /// Plans the package's steps. A pure function.
    ///
    /// `libraries` has the digest of each of [`Kind::libraries`].
    fn plan(&self, known: &Known<'_>, libraries: &[Digest]) -> Result<Planned>;

    /// Runs the step that uses the network, if [`Kind::plan`] has one.
    fn fetch(&self, making: &Making<'_>) -> Result<()> {
        bail!("package `{}`: its kind of source has no fetch step", making.package.name)
    }

    /// Makes the package's files in [`Making::out`].
    fn stage(&self, making: &Making<'_>) -> Result<()>;

    /// Returns the upstream version of the files, for the report.
    fn version(&self, known: &Known<'_>) -> Result<Option<String>>;
}

/// A `[source.KIND]` table that is being checked.
#[derive(Debug)]
pub struct Place<'a> {
    /// The package's file.
    pub text: &'a Text,
    /// The table's place in it.
    pub span: Range<usize>,
    /// The architecture of the image.
    pub arch: Arch,
}

/// The package of a source.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The package's name.
    pub name: &'a str,
    /// The folder with its `pkg.toml`.
    pub folder: &'a Path,
    /// The layer that the package belongs to.
    pub layer: &'a Path,
    /// The architecture of the image.
    pub arch: Arch,
    /// The source date, in seconds since 1970.
    pub date: u32,
    /// The test of its programs.
    pub smoke: Option<&'a Smoke>,
}

/// A command whose output must contain a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smoke {
    /// Program (a staged name) and arguments.
    pub command: Vec<String>,
    /// The text that its output must contain.
    pub expect: String,
}

/// The compilers of this host; one that no package needs may be missing.
#[derive(Debug, Clone, Default)]
pub struct Toolchain {
    /// `go version`.
    pub go: String,
    /// `rustc -vV`.
    pub rust: String,
    /// The output of `cc --version`.
    pub cc: String,
    /// The digest of Cargo.lock.
    pub cargo_lock: Option<Digest>,
    /// The user's settings on the source of crates.
    pub crate_sources: String,
    /// The version of the linker for crates that the user chose; empty for the C compiler.
    pub linker: String,
}

/// The facts about a package's folder that planning needs.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The digest of the folder, or of a crate with all that it is built from.
    pub digest: Digest,
    /// The text of go.mod; empty for other kinds.
    pub go_mod: String,
}

/// Everything that is known about a package when it is planned.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The package.
    pub package: Subject<'a>,
    /// Its facts, if its kind has some and the build file lists it.
    pub facts: Option<&'a Facts>,
    /// The compilers.
    pub toolchain: &'a Toolchain,
    /// The pinned Debian packages.
    pub locks: &'a Locks,
}

/// The steps of a package.
#[derive(Debug)]
pub struct Planned {
    /// The step that uses the network, if the kind has a downloader of its own.
    pub fetch: Option<Fetch>,
    /// Files that the builder downloads first.
    pub downloads: Vec<Locked>,
    /// The digest of all that changes the files.
    pub digest: Digest,
}

/// A step that uses the network.
#[derive(Debug)]
pub struct Fetch {
    /// Its name; packages can share one.
    pub step: String,
    /// The digest of all that changes what it downloads.
    pub digest: Digest,
}

/// A step that is being made.
pub struct Making<'a> {
    /// The package.
    pub package: Subject<'a>,
    /// Its facts, if its kind has some.
    pub facts: Option<&'a Facts>,
    /// The repository's root.
    pub workspace: &'a Path,
    /// The downloaded files, in the plan's order.
    pub downloads: Vec<Download>,
    /// The folders of [`Kind::libraries`], in their order.
    pub libraries: Vec<PathBuf>,
    /// The cache, in which downloaders of other programs have folders of their own.
    pub cache: &'a Cache,
    /// The display of progress.
    pub progress: &'a Progress,
    /// The folder for the results, which is empty.
    pub out: &'a Path,
}

/// A file that has been downloaded and checked.
#[derive(Debug)]
pub struct Download {
    /// Its name.
    pub name: String,
    /// The file in the cache.
    pub path: PathBuf,
}

impl Place<'_> {
    /// An error about the whole table.
    pub fn error(&self, cause: impl Display) -> Error {
        self.text.error_at(&self.span, cause)
    }
}

impl Known<'_> {
    /// The facts about a package that the build file must list.
    pub fn facts(&self) -> Result<&Facts> {
        self.facts.with_context(|| {
            format!("package `{}` is not listed in build.toml's `packages`", self.package.name)
        })
    }
}

impl Toolchain {
    /// Reads the version of Go.
    pub fn need_go(&mut self) -> Result<()> {
        need(&mut self.go, "go", "version")
    }

    /// Reads the version of the C compiler.
    pub fn need_cc(&mut self) -> Result<()> {
        need(&mut self.cc, "cc", "--version")
    }

    /// Reads the versions of the compilers that crates need, and the source of crates.
    pub fn need_rust(&mut self, workspace: &Path, arch: Arch) -> Result<()> {
        need(&mut self.rust, "rustc", "-vV")?;
        self.need_cc()?;
        if self.cargo_lock.is_none() {
            self.cargo_lock = Some(Digest::of_file(&workspace.join("Cargo.lock"))?);
            self.crate_sources = cargo::sources(workspace)?;
            if let Some((_, linker)) = cargo::linker(arch) {
                let sh = shell()?;
                self.linker = Command::from(cmd!(sh, "{linker} --version")).read()?;
            }
        }
        Ok(())
    }
}

fn need(version: &mut String, program: &str, argument: &str) -> Result<()> {
    if version.is_empty() {
        // As in a step: rustup may choose a toolchain by the folder, and Go by its settings.
        let sh = shell()?;
        let command = Command::from(cmd!(sh, "{program} {argument}")).dir(Path::new("/"));
        let command = command.env("GOENV", "off").env("GOTOOLCHAIN", "local");
        command.read()?.trim().clone_into(version);
    }
    Ok(())
}
