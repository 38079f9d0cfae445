//! Crates of this workspace, as static programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use kiln_host::environment::{CARGO, NETWORK};
use serde::Deserialize;
use xshell::cmd;

use super::cargo::{Cargo, linker};
use super::kind::{Facts, Fetch, Kind, Known, Making, Planned, Subject, Toolchain};
use super::{musl, smoke};
use crate::arch::Arch;
use crate::digest::{Digest, Recipe};
use crate::process::shell;
use crate::progress::Progress;
use crate::revision;
use crate::walk::{self, NOT_BUILT};

/// The step that downloads the crates that Cargo.lock names, for all packages.
pub const FETCH: &str = "fetch crates";

/// The folder of the cache that is the home of the builder's cargo.
pub const HOME: &str = "cargo";

/// Files of the workspace that change every crate's build.
const WORKSPACE_FILES: [&str; 2] = ["Cargo.toml", "Cargo.lock"];

/// The table as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Table {
    package: String,
    #[serde(default)]
    features: Vec<String>,
    libc: Option<String>,
}

/// A crate of this workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crate {
    /// The crate's name, and its binary's.
    package: String,
    /// Features that are switched on.
    features: Vec<String>,
    /// The package with the C library that it is linked with; otherwise the compiler's own.
    libc: Option<String>,
}

impl Table {
    pub(super) fn check(&self) -> Crate {
        let Self { package, features, libc } = self.clone();
        Crate { package, features, libc }
    }
}

impl Kind for Crate {
    fn libraries(&self) -> &[String] {
        self.libc.as_slice()
    }

    /// A package's folder holds more than the crate: content, pkg.toml.
    fn look(
        &self,
        package: &Subject<'_>,
        workspace: &Path,
        toolchain: &mut Toolchain,
    ) -> Result<Option<Facts>> {
        toolchain.need_rust(workspace, package.arch)?;
        let crate_ = self.folder(package, workspace)?;
        let folder = walk::digest(package.folder, &NOT_BUILT)?;
        let recipe = closure(Recipe::new("crate"), crate_, workspace)?.digest("package", folder);
        Ok(Some(Facts { digest: recipe.finish(), go_mod: String::new() }))
    }

    fn plan(&self, known: &Known<'_>, libraries: &[Digest]) -> Result<Planned> {
        let (package, toolchain, facts) = (known.package, known.toolchain, known.facts()?);
        let lock = toolchain.cargo_lock.context("Cargo.lock was not read")?;
        let crates = Recipe::new(revision::CRATES)
            .digest("Cargo.lock", lock)
            .field("sources", &toolchain.crate_sources);
        let mut recipe = recipe(toolchain, package.arch, facts.digest)
            .field("linker", &toolchain.linker)
            .field("features", self.features.join(","))
            .field("smoke", format!("{:?}", package.smoke));
        for libc in libraries {
            recipe = recipe.digest("link", musl::digest()).digest("libc", *libc);
        }
        let fetch = Fetch { step: FETCH.to_owned(), digest: crates.finish() };
        Ok(Planned { fetch: Some(fetch), downloads: Vec::new(), digest: recipe.finish() })
    }

    fn fetch(&self, making: &Making<'_>) -> Result<()> {
        let home = making.cache.dir(HOME)?;
        let cargo = Cargo::new(making.workspace, &home)?;
        fetch(&cargo, making.package.arch, making.progress)
    }

    fn stage(&self, making: &Making<'_>) -> Result<()> {
        let program = Program {
            package: &self.package,
            name: &self.package,
            features: &self.features,
            libc: making.libraries.first().map(PathBuf::as_path),
        };
        let home = making.cache.dir(HOME)?;
        let cargo = Cargo::new(making.workspace, &home)?;
        build(program, &cargo, making.package.arch, making.out, making.progress)?;
        smoke::run(&making.package, making.out)
    }

    /// All crates of the workspace have one version, which is the builder's too.
    fn version(&self, _: &Known<'_>) -> Result<Option<String>> {
        Ok(Some(env!("CARGO_PKG_VERSION").to_owned()))
    }
}

impl Crate {
    /// A package's crate is in its own folder, or in the workspace under the same name (`init`).
    fn folder(&self, package: &Subject<'_>, workspace: &Path) -> Result<PathBuf> {
        if package.folder.join("Cargo.toml").exists() {
            return Ok(package.folder.to_owned());
        }
        // `pkgs` is for a second package of the same crate, whose own folder is elsewhere.
        let dirs = [workspace.join(&self.package), workspace.join("pkgs").join(&self.package)];
        let found = dirs.iter().find(|dir| dir.join("Cargo.toml").exists()).cloned();
        found.ok_or_else(|| {
            let [root, pkgs] = dirs.map(|dir| dir.display().to_string());
            anyhow!(
                "package `{}`: there is no Cargo.toml in {}, {root} or {pkgs}",
                package.name,
                package.folder.display()
            )
        })
    }
}

/// The beginning of every recipe of a crate.
pub fn recipe(toolchain: &Toolchain, arch: Arch, sources: Digest) -> Recipe {
    Recipe::new(revision::CRATE)
        .field("rust", &toolchain.rust)
        .field("cc", &toolchain.cc)
        .field("target", arch.triple())
        .digest("sources", sources)
}

/// Downloads the crates that Cargo.lock names for one architecture. Uses the network.
pub fn fetch(cargo: &Cargo<'_>, arch: Arch, progress: &Progress) -> Result<()> {
    let task = progress.task("crates", None);
    let (sh, settings, manifest, triple) =
        (shell()?, cargo.file(), cargo.manifest(), arch.triple());
    let command = cargo.run(cmd!(
        sh,
        "cargo fetch --config {settings} --manifest-path {manifest} --locked --target {triple}"
    ));
    command
        .with(NETWORK)
        .with(CARGO)
        .watch(|line| task.note(line.trim()))
        .context("cannot download the crates that Cargo.lock names")
}

/// A program of a crate.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// The crate.
    pub package: &'a str,
    /// Its binary.
    pub name: &'a str,
    /// The crate's features.
    pub features: &'a [String],
    /// The unpacked package with the C library, or the compiler's own library.
    pub libc: Option<&'a Path>,
}

/// Builds one crate's binary, with these features, into `out`. Uses no network.
pub fn build(
    program: Program<'_>,
    cargo: &Cargo<'_>,
    arch: Arch,
    out: &Path,
    progress: &Progress,
) -> Result<()> {
    let Program { package, name, features, libc } = program;
    let task = progress.task(&format!("{name}: cargo build"), None);
    let (target, triple, features) = (cargo.target(), arch.triple(), features.join(","));
    let work = target.join("musl").join(name);
    let link = libc.map(|libc| musl::arguments(libc, arch, &work)).transpose()?.unwrap_or_default();
    let (sh, settings, manifest) = (shell()?, cargo.file(), cargo.manifest());
    // Arguments after `--` are for the program alone, so all programs share the other crates.
    let command = cargo.run(cmd!(
        sh,
        "cargo rustc --config {settings} --manifest-path {manifest} --release --locked --offline
         --package {package} --bin {name} --target {triple} --features {features} -- {link...}"
    ));
    let command = command
        .env("CARGO_TARGET_DIR", &target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(cargo)?.join("\x1f"));
    let command =
        linker(arch).into_iter().fold(command, |command, (name, linker)| command.env(name, linker));
    command.watch(|line| {
        if line.trim_start().starts_with("Compiling") {
            task.advance(1);
            task.note(line.trim());
        }
    })?;
    let built = target.join(triple).join("release").join(name);
    fs::copy(&built, out.join(name))
        .with_context(|| format!("cannot copy {} into the cache", built.display()))?;
    Ok(())
}

/// Static, and without a trace of the place where it was built.
fn flags(cargo: &Cargo<'_>) -> Result<Vec<String>> {
    let fixed = ["-Ctarget-feature=+crt-static", "-Clink-arg=-Wl,--build-id=none"];
    Ok(fixed.map(str::to_owned).into_iter().chain(cargo.remap()?).collect())
}

/// Adds a crate, the workspace's crates that it depends on, and the workspace's own files.
pub fn closure(mut recipe: Recipe, crate_: PathBuf, workspace: &Path) -> Result<Recipe> {
    for file in WORKSPACE_FILES {
        recipe = recipe.digest(file, Digest::of_file(&workspace.join(file))?);
    }
    let shared = workspace_crates(workspace)?;
    let mut todo = vec![crate_];
    let mut seen = BTreeSet::new();
    while let Some(dir) = todo.pop() {
        if seen.insert(dir.clone()) {
            todo.extend(dependencies(&dir, &shared)?);
        }
    }
    for dir in &seen {
        let label = dir.strip_prefix(workspace).unwrap_or(dir).display().to_string();
        recipe = recipe.digest(&label, walk::digest(dir, &NOT_BUILT)?);
    }
    Ok(recipe)
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
