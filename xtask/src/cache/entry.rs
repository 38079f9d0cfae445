//! A finished entry: files that never change, and the manifest that lists them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::process;

/// The folder with the step's results.
pub(super) const FILES: &str = "files";

const MANIFEST: &str = "manifest.json";

/// A finished entry of the cache.
#[derive(Debug, Clone)]
pub struct Entry {
    files: PathBuf,
    manifest: Manifest,
}

/// The results of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    /// The name of the step, for messages.
    label: String,
    /// Path below `files` → item.
    files: BTreeMap<String, Item>,
}

/// One item below `files`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Item {
    Dir { mode: u32 },
    File { size: u64, mode: u32, sha256: Digest, mtime: (i64, i64) },
    Link { target: String },
}

impl Entry {
    /// Reads the manifest of a finished entry.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST);
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let manifest = serde_json::from_slice(&text)
            .with_context(|| format!("cannot parse {}", path.display()))?;
        Ok(Self { files: dir.join(FILES), manifest })
    }

    /// Returns the folder with the files, which must not be changed.
    pub fn path(&self) -> &Path {
        &self.files
    }

    /// Returns one of the files. `path` may start with `/`, as paths in packages do.
    pub fn file(&self, path: &str) -> Result<PathBuf> {
        let relative = path.trim_start_matches('/');
        let known = self.manifest.files.contains_key(relative);
        ensure!(known, "{} has no `{path}`", self.manifest.label);
        Ok(self.files.join(relative))
    }

    /// Checks names, sizes, modes and links of all items, and hashes files whose time changed.
    pub(super) fn glance(&self) -> Result<()> {
        self.compare(|now, then| now == then)
    }

    /// Checks all items and hashes every file.
    pub fn verify(&self) -> Result<()> {
        self.compare(|_, _| false)
    }

    fn compare(&self, trusted: fn((i64, i64), (i64, i64)) -> bool) -> Result<()> {
        let found = list(&self.files)?;
        if let Some(path) = self.manifest.files.keys().find(|path| !found.contains_key(*path)) {
            bail!("{} is missing", self.files.join(path).display());
        }
        for (path, meta) in &found {
            let full = self.files.join(path);
            let item = self.manifest.files.get(path);
            let item =
                item.with_context(|| format!("{} was not made by its step", full.display()))?;
            item.compare(&full, meta, trusted)?;
            process::check_interrupt()?;
        }
        Ok(())
    }
}

impl Item {
    fn of(path: &Path, meta: &fs::Metadata) -> Result<Self> {
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_symlink() {
            let target = fs::read_link(path)
                .with_context(|| format!("cannot read the link {}", path.display()))?;
            let target = target.into_os_string().into_string();
            let target = target.map_err(|target| {
                anyhow::anyhow!("the link's target {} is not UTF-8", target.display())
            })?;
            return Ok(Self::Link { target });
        }
        if meta.is_dir() {
            return Ok(Self::Dir { mode });
        }
        ensure!(meta.is_file(), "{} is neither file, folder nor link", path.display());
        Ok(Self::File {
            size: meta.len(),
            mode,
            sha256: Digest::of_file(path)?,
            mtime: mtime(meta),
        })
    }

    fn compare(
        &self,
        path: &Path,
        meta: &fs::Metadata,
        trusted: fn((i64, i64), (i64, i64)) -> bool,
    ) -> Result<()> {
        let at = || path.display();
        match self {
            Self::File { size, mode, sha256, mtime: then } if meta.is_file() => {
                ensure!(meta.len() == *size, "{} has {} bytes, expected {size}", at(), meta.len());
                ensure!(
                    meta.permissions().mode() & 0o7777 == *mode,
                    "{} has a different mode",
                    at()
                );
                if !trusted(mtime(meta), *then) {
                    ensure!(Digest::of_file(path)? == *sha256, "{} has different contents", at());
                }
            }
            item => {
                ensure!(!meta.is_file() && *item == Self::of(path, meta)?, "{} has changed", at());
            }
        }
        Ok(())
    }
}

/// Writes the manifest of a step's results in `dir`.
pub(super) fn seal(dir: &Path, label: &str) -> Result<()> {
    let root = dir.join(FILES);
    let mut files = BTreeMap::new();
    for (path, meta) in list(&root)? {
        let item = Item::of(&root.join(&path), &meta)?;
        files.insert(path, item);
        process::check_interrupt()?;
    }
    let manifest = Manifest { label: label.to_owned(), files };
    let path = dir.join(MANIFEST);
    let text = serde_json::to_vec(&manifest).context("cannot write a manifest as JSON")?;
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Lists everything below a folder, by relative path.
fn list(root: &Path) -> Result<BTreeMap<String, fs::Metadata>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        let dir = root.join(&folder);
        let context = || format!("cannot read the folder {}", dir.display());
        for entry in fs::read_dir(&dir).with_context(context)? {
            let entry = entry.with_context(context)?;
            let name = entry.file_name().into_string();
            let name = name.map_err(|name| {
                anyhow::anyhow!("the name {} in {} is not UTF-8", name.display(), dir.display())
            })?;
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let meta = entry
                .metadata()
                .with_context(|| format!("cannot read {}", entry.path().display()))?;
            if meta.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path, meta);
        }
    }
    Ok(found)
}

fn mtime(meta: &fs::Metadata) -> (i64, i64) {
    (meta.mtime(), meta.mtime_nsec())
}
