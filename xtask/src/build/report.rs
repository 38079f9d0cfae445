//! The contents of a finished image: `NAME-ARCH.json` next to the file, and the table of `size`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use kiln_base::replace::{self, Durability};
use serde::{Deserialize, Serialize};
use xshell::{Cmd, cmd};

use super::Builder;
use super::made::dir;
use crate::cache::Entry;
use crate::config::{Config, Layer};
use crate::digest::Digest;
use crate::plan::{ARCHIVE, KERNEL, PODS, ROOT, staged};
use crate::process::{Command, shell};
use crate::progress::Bytes;
use crate::tree::{Node, Tree};

/// The EFI file in its step's folder.
pub(super) const EFI: &str = "image.efi";
/// The report next to it.
const REPORT: &str = "image.json";
/// The list of a tree's files, next to the image that was written from it.
pub(super) const CONTENTS: &str = "contents.json";

const MIB: u64 = 1024 * 1024;

/// A finished image.
#[derive(Debug, Clone)]
pub struct Built {
    /// The EFI file.
    pub efi: PathBuf,
    /// Its contents.
    pub report: Report,
}

/// Everything in the image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The image's name.
    pub name: String,
    /// Its architecture.
    pub arch: String,
    /// The kernel's release.
    pub kernel: String,
    /// The kernel's command line.
    pub cmdline: String,
    /// Length of the EFI file in bytes.
    pub bytes: u64,
    /// Every package of the image.
    pub packages: Vec<PackageReport>,
    /// Parts of the file, with their lengths in it.
    pub parts: BTreeMap<String, u64>,
    /// Files, not compressed, by the part that holds them.
    pub items: Vec<Item>,
    /// The expanded configuration.
    pub configuration: String,
    /// The commit of Kiln's repository, followed by `+` if files have changed since.
    pub revision: Option<String>,
    /// The layers of the configuration, nearest first.
    #[serde(default)]
    pub layers: Vec<LayerReport>,
}

/// A layer of the configuration.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LayerReport {
    /// Its folder, relative to Kiln's repository if the folder lies there.
    pub folder: PathBuf,
    /// The commit of its repository, followed by `+` if files of the layer have changed since.
    pub revision: Option<String>,
}

/// A package of the image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PackageReport {
    /// Its name.
    pub name: String,
    /// Upstream's version or Debian's; missing if a file has only its digest.
    pub version: Option<String>,
    /// One sentence on its purpose.
    pub about: String,
    /// An SPDX expression.
    pub license: String,
    /// The digest of all that it was built from.
    pub digest: Digest,
    /// Length in bytes of all its files in the image, not compressed.
    pub bytes: u64,
}

/// A file of the image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Item {
    /// `root`, `pods` or `archive`.
    pub part: String,
    /// Its path in that part.
    pub path: String,
    /// The package that it belongs to.
    pub owner: String,
    /// Its length, not compressed.
    pub bytes: u64,
    /// True if it has an x bit.
    pub executable: bool,
}

/// The files of a tree.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Contents(Vec<Item>);

impl Contents {
    pub(super) fn of(tree: &Tree) -> Self {
        let file = |(path, entry): (&crate::tree::TreePath, &crate::tree::Entry)| match &entry.node
        {
            Node::File(mode, content) => Some(Item {
                part: String::new(),
                path: path.to_string(),
                owner: entry.owner.clone(),
                bytes: content.len(),
                executable: mode & 0o111 != 0,
            }),
            _ => None,
        };
        Self(tree.iter().filter_map(file).collect())
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        write_json(path, self)
    }

    fn read(part: &str, dir: &Path) -> Result<Vec<Item>> {
        let mut contents: Self = read_json(&dir.join(CONTENTS))?;
        contents.0.iter_mut().for_each(|item| part.clone_into(&mut item.part));
        Ok(contents.0)
    }
}

/// Refuses an image above the limit.
pub(super) fn check_limit(config: &Config, efi: &Path) -> Result<()> {
    let bytes = efi.metadata()?.len();
    let limit = config.budget.uki_limit_mib;
    ensure!(
        bytes <= limit * MIB,
        "the image has {}, but its limit is {limit} MiB (`uki-limit-mib` in build.toml); \
         leave a package out, or raise the limit and run `cargo xtask size`",
        Bytes(bytes)
    );
    Ok(())
}

/// Writes the report into the image's step.
pub(super) fn write(builder: &Builder, needs: &BTreeMap<String, Entry>, out: &Path) -> Result<()> {
    let config = &builder.config;
    let kernel = dir(needs, KERNEL)?;
    let archive = dir(needs, ARCHIVE)?;
    let mut items = Contents::read("root", &dir(needs, ROOT)?)?;
    items.extend(Contents::read("pods", &dir(needs, PODS)?)?);
    items.extend(Contents::read("archive", &archive)?);
    let size = |path: &Path| Ok::<_, anyhow::Error>(path.metadata()?.len());
    let parts = BTreeMap::from([
        ("kernel".to_owned(), size(&kernel.join("vmlinuz"))?),
        ("archive".to_owned(), size(&archive.join(ARCHIVE))?),
        ("root.erofs".to_owned(), size(&dir(needs, ROOT)?.join(ROOT))?),
        ("pods.erofs".to_owned(), size(&dir(needs, PODS)?.join(PODS))?),
    ]);
    let report = Report {
        name: config.name.clone(),
        arch: config.arch.to_string(),
        kernel: fs::read_to_string(kernel.join("release"))?,
        cmdline: config.cmdline.clone(),
        bytes: size(&out.join(EFI))?,
        packages: packages(builder, &items)?,
        parts,
        items,
        configuration: config.expanded(),
        // The step is the same for all commits that make the same file, so the revision is added
        // later.
        revision: None,
        layers: Vec::new(),
    };
    write_json(&out.join(REPORT), &report)
}

fn packages(builder: &Builder, items: &[Item]) -> Result<Vec<PackageReport>> {
    let config = &builder.config;
    let names = config.listed.iter().map(String::as_str).chain([config.kernel.package()]);
    names
        .map(|name| {
            let package = config.package(name);
            Ok(PackageReport {
                name: name.to_owned(),
                version: version(builder, name)?,
                about: package.about.clone(),
                license: package.license.clone(),
                digest: builder.plan.step(&staged(name))?.digest,
                bytes: items.iter().filter(|item| item.owner == name).map(|item| item.bytes).sum(),
            })
        })
        .collect()
}

fn version(builder: &Builder, name: &str) -> Result<Option<String>> {
    let known = builder.inputs.known(&builder.config, &builder.locks, name);
    builder.config.package(name).source.kind().version(&known)
}

/// Returns the commit that a folder was checked out from, or nothing outside a repository.
fn revision(folder: &Path) -> Option<String> {
    let sh = shell().ok()?;
    let git = |command: Cmd<'_>| Command::from(command).dir(folder).read().ok();
    let commit = git(cmd!(sh, "git rev-parse HEAD"))?;
    let changed = !git(cmd!(sh, "git status --porcelain -- ."))?.trim().is_empty();
    Some(format!("{}{}", commit.trim(), if changed { "+" } else { "" }))
}

fn layers(builder: &Builder) -> Vec<LayerReport> {
    let workspace = &builder.inputs.workspace;
    let layer = |layer: &Layer| LayerReport {
        folder: layer.folder.strip_prefix(workspace).unwrap_or(&layer.folder).to_owned(),
        revision: revision(&layer.folder),
    };
    builder.config.layers.iter().map(layer).collect()
}

/// Copies a finished image to `target/kiln/NAME-ARCH.efi`, with its report.
pub(super) fn publish(builder: &Builder, entry: &Entry) -> Result<Built> {
    let dir = builder.inputs.workspace.join("target/kiln");
    fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let stem = format!("{}-{}", builder.config.name, builder.config.arch);
    let efi = dir.join(format!("{stem}.efi"));
    replace_unless_equal(&entry.path().join(EFI), &efi)?;
    let mut report: Report = read_json(&entry.path().join(REPORT))?;
    report.revision = revision(&builder.inputs.workspace);
    report.layers = layers(builder);
    write_json(&dir.join(format!("{stem}.json")), &report)?;
    Ok(Built { efi, report })
}

/// Replaces a file by a copy of another; leaves an equal file alone. A power cut may damage the
/// copy, but then the next build finds it unequal and copies again.
fn replace_unless_equal(from: &Path, to: &Path) -> Result<()> {
    if to.exists() && Digest::of_file(from)? == Digest::of_file(to)? {
        return Ok(());
    }
    replace::copy(from, to, Durability::None)
        .with_context(|| format!("cannot write {}", to.display()))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context("cannot write JSON")? + "\n";
    replace::write(path, text.as_bytes(), 0o644, Durability::None)
        .with_context(|| format!("cannot write {}", path.display()))
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is damaged; run `cargo xtask clean`", path.display()))
}
