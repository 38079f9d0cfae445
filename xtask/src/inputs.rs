//! What the plan must know of the disk and the host: digests of folders, versions of compilers.
//!
//! Everything is read here, once, before planning; the plan itself is a pure function of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use xshell::cmd;

use crate::config::{Config, Output, Source};
use crate::digest::{Digest, Recipe};
use crate::process::{Command, shell};
use crate::source::cargo;

/// Files of the workspace that change every crate's build.
const WORKSPACE_FILES: [&str; 2] = ["Cargo.toml", "Cargo.lock"];

/// The crate that makes packs, below the workspace.
const PACKER: &str = "pkgs/static-server";

/// The hidden name that is content (RFC 8615).
const WELL_KNOWN: &str = ".well-known";

/// Folders of a crate that do not go into its binary.
const NOT_BUILT: [&str; 5] = ["fuzz", "target", "tests", "benches", "testdata"];

/// Everything that planning needs and that `Config` and the lock do not say.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The repository's root.
    pub workspace: PathBuf,
    /// `go version`.
    pub go: String,
    /// `rustc -vV`.
    pub rust: String,
    /// The C compiler's first line; empty when nothing in the image needs one.
    pub cc: String,
    /// Package → its go.mod.
    pub go_mod: BTreeMap<String, String>,
    /// Package → digest of the folder, or of the crate with those it depends on.
    pub packages: BTreeMap<String, Digest>,
    /// Digest of each layer's `rootfs`, in the configuration's order; none where there is none.
    pub rootfs: Vec<Option<Digest>>,
    /// Digest of the crate that makes packs, where an image has one.
    pub packer: Option<Digest>,
    /// Digest of Cargo.lock.
    pub cargo_lock: Option<Digest>,
    /// The user's settings on the source of crates.
    pub crate_sources: String,
    /// The linker for crates that the user chose, and its version; empty for the C compiler.
    pub linker: String,
}

impl Inputs {
    /// Reads what this configuration needs; compilers that it does not need may be missing.
    pub fn read(config: &Config, workspace: &Path) -> Result<Self> {
        let mut inputs = Self { workspace: workspace.to_owned(), ..Self::default() };
        for name in &config.listed {
            inputs.read_package(config, name)?;
        }
        for rootfs in &config.rootfs {
            let digest = if rootfs.exists() { Some(folder(rootfs, &[])?) } else { None };
            inputs.rootfs.push(digest);
        }
        if config.images().any(|(package, _)| package.packs().next().is_some()) {
            inputs.need_compilers()?;
            let mut recipe = Recipe::new("packer");
            recipe = inputs.crates_of(recipe, workspace.join(PACKER))?;
            inputs.packer = Some(recipe.finish());
        }
        inputs.cargo_lock = Some(Digest::of_file(&workspace.join("Cargo.lock"))?);
        inputs.crate_sources = cargo::sources(workspace)?;
        if let Some((_, linker)) = cargo::linker(config.arch) {
            let sh = shell()?;
            inputs.linker = Command::from(cmd!(sh, "{linker} --version")).read()?;
        }
        Ok(inputs)
    }

    fn read_package(&mut self, config: &Config, name: &str) -> Result<()> {
        let package = config.package(name);
        let digest = match &package.source {
            Source::Go(go) => {
                self.need(|inputs| &mut inputs.go, "go", &["version"])?;
                if go.cgo {
                    self.need(|inputs| &mut inputs.cc, "cc", &["--version"])?;
                }
                let path = package.folder.join("go.mod");
                let text = fs::read_to_string(&path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                self.go_mod.insert(name.to_owned(), text);
                folder(&package.folder, &NOT_BUILT)?
            }
            Source::Crate { .. } => {
                self.need_compilers()?;
                self.crate_closure(config, name)?
            }
            Source::Deb(_) | Source::Url { .. } => match package.output {
                Output::Image(_) => folder(&package.folder, &NOT_BUILT)?,
                _ => return Ok(()),
            },
        };
        self.packages.insert(name.to_owned(), digest);
        Ok(())
    }

    fn need(
        &mut self,
        slot: fn(&mut Self) -> &mut String,
        program: &str,
        args: &[&str],
    ) -> Result<()> {
        if slot(self).is_empty() {
            let sh = shell()?;
            // As in a step: rustup may choose a toolchain by the folder, Go by its settings.
            let command = Command::from(cmd!(sh, "{program} {args...}")).dir(Path::new("/"));
            let command = command.env("GOENV", "off").env("GOTOOLCHAIN", "local");
            command.read()?.trim().clone_into(slot(self));
        }
        Ok(())
    }

    fn need_compilers(&mut self) -> Result<()> {
        self.need(|inputs| &mut inputs.rust, "rustc", &["-vV"])?;
        self.need(|inputs| &mut inputs.cc, "cc", &["--version"])
    }

    /// A package's crate; its folder holds more than the crate: content, pkg.toml.
    fn crate_closure(&self, config: &Config, name: &str) -> Result<Digest> {
        let crate_ = crate_folder(config, name, &self.workspace)?;
        let package = folder(&config.package(name).folder, &NOT_BUILT)?;
        Ok(self.crates_of(Recipe::new("crate"), crate_)?.digest("package", package).finish())
    }

    /// A crate, the workspace's crates that it depends on, and the workspace's own files.
    fn crates_of(&self, mut recipe: Recipe, crate_: PathBuf) -> Result<Recipe> {
        for file in WORKSPACE_FILES {
            recipe = recipe.digest(file, Digest::of_file(&self.workspace.join(file))?);
        }
        let shared = workspace_crates(&self.workspace)?;
        let mut todo = vec![crate_];
        let mut seen = BTreeSet::new();
        while let Some(dir) = todo.pop() {
            if seen.insert(dir.clone()) {
                todo.extend(dependencies(&dir, &shared)?);
            }
        }
        for dir in &seen {
            let label = dir.strip_prefix(&self.workspace).unwrap_or(dir).display().to_string();
            recipe = recipe.digest(&label, folder(dir, &NOT_BUILT)?);
        }
        Ok(recipe)
    }
}

/// Digest of all files below a folder: names, x bits, links and bytes. Hidden files are left out,
/// `.well-known` is not.
pub fn folder(dir: &Path, skip: &[&str]) -> Result<Digest> {
    let mut files = Vec::new();
    walk(dir, Path::new(""), skip, &mut files)?;
    let mut recipe = Recipe::new("folder");
    for file in files {
        let path = dir.join(&file.path);
        let name = file.path.to_string_lossy();
        recipe = match file.kind {
            Kind::Link(target) => recipe.field(&name, format!("link to {}", target.display())),
            Kind::File { executable } => recipe
                .field(&name, if executable { "x" } else { "-" })
                .digest("bytes", Digest::of_file(&path)?),
        };
    }
    Ok(recipe.finish())
}

/// A file below a folder, as [`walk`] finds it.
#[derive(Debug)]
pub struct Found {
    /// Relative to the folder.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
}

/// What a found file is.
#[derive(Debug)]
pub enum Kind {
    /// A regular file.
    File {
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A symbolic link.
    Link(PathBuf),
}

/// All files and links below a folder, sorted, hidden ones but `.well-known` left out.
pub fn files(dir: &Path) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    walk(dir, Path::new(""), &[], &mut found)?;
    Ok(found)
}

fn walk(dir: &Path, below: &Path, skip: &[&str], found: &mut Vec<Found>) -> Result<()> {
    let here = dir.join(below);
    let context = || format!("cannot read the folder {}", here.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&here).with_context(context)? {
        names.push(entry.with_context(context)?.file_name());
    }
    names.sort();
    for name in names {
        let text = name.to_string_lossy();
        if (text.starts_with('.') && text != WELL_KNOWN)
            || (below == Path::new("") && skip.contains(&&*text))
        {
            continue;
        }
        let path = below.join(&name);
        let full = dir.join(&path);
        let meta =
            full.symlink_metadata().with_context(|| format!("cannot read {}", full.display()))?;
        if meta.is_dir() {
            walk(dir, &path, skip, found)?;
        } else if meta.is_symlink() {
            found.push(Found { path, kind: Kind::Link(fs::read_link(&full)?) });
        } else {
            use std::os::unix::fs::PermissionsExt;
            let executable = meta.permissions().mode() & 0o100 != 0;
            found.push(Found { path, kind: Kind::File { executable } });
        }
    }
    Ok(())
}

/// A package's crate lies in its own folder, or in the workspace under the same name (`init`).
fn crate_folder(config: &Config, name: &str, workspace: &Path) -> Result<PathBuf> {
    let folder = &config.package(name).folder;
    if folder.join("Cargo.toml").exists() {
        return Ok(folder.clone());
    }
    let Source::Crate { package, .. } = &config.package(name).source else {
        anyhow::bail!("package `{name}` is no crate");
    };
    // In `pkgs` for a package of the same crate with other files, which lies elsewhere.
    let dirs = [workspace.join(package), workspace.join("pkgs").join(package)];
    let found = dirs.iter().find(|dir| dir.join("Cargo.toml").exists()).cloned();
    found.ok_or_else(|| {
        let [root, pkgs] = dirs.map(|dir| dir.display().to_string());
        anyhow::anyhow!(
            "package `{name}`: there is no Cargo.toml in {}, {root} or {pkgs}",
            folder.display()
        )
    })
}

/// Name → folder of the crates that the workspace's dependency table gives by path.
fn workspace_crates(workspace: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let table = manifest(workspace)?;
    let shared =
        table.get("workspace").and_then(|w| w.get("dependencies")).and_then(toml::Value::as_table);
    let shared = shared.cloned().unwrap_or_default();
    let path = |value: &toml::Value| {
        value.get("path").and_then(toml::Value::as_str).map(|path| workspace.join(path))
    };
    Ok(shared.iter().filter_map(|(name, value)| Some((name.clone(), path(value)?))).collect())
}

/// Folders of the crates that a crate is built with and that are not in a registry.
fn dependencies(dir: &Path, shared: &BTreeMap<String, PathBuf>) -> Result<Vec<PathBuf>> {
    let table = manifest(dir)?;
    let mut found = Vec::new();
    for key in ["dependencies", "build-dependencies"] {
        for (name, value) in table.get(key).and_then(toml::Value::as_table).into_iter().flatten() {
            match (value.get("path").and_then(toml::Value::as_str), shared.get(name)) {
                (Some(path), _) => found.push(dir.join(path)),
                (None, Some(path)) => found.push(path.clone()),
                (None, None) => {}
            }
        }
    }
    Ok(found)
}

fn manifest(dir: &Path) -> Result<toml::Table> {
    let path = dir.join("Cargo.toml");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("cannot parse {}", path.display()))
}
