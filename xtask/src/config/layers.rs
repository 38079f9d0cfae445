//! A build file merged with those that it inherits: tables merge, lists replace, each file counts
//! once.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use anyhow::{Error, Result, anyhow};
use kiln_base::calendar::Civil;
use toml::Spanned;
use toml::value::Datetime;

use super::budget::Budget;
use super::erofs::Compression;
use super::raw;
use crate::text::{Read, Text};

/// A folder with `pkgs/`, `manifests/`, `kernel/`, `rootfs/` and a `build.lock`; each may be missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The folder.
    pub folder: PathBuf,
    /// True if the layer belongs to an inherited build file.
    pub inherited: bool,
}

/// A name, and the file that has it; no file if the builder itself needs the name.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) text: Option<Text>,
    pub(super) name: Spanned<String>,
}

/// A list, and the one file that it comes from.
#[derive(Debug, Clone, Default)]
pub(super) struct List {
    pub(super) text: Option<Text>,
    pub(super) items: Vec<Spanned<String>>,
}

/// The merged contents of all files.
#[derive(Debug)]
pub(super) struct Merged {
    /// The requested file.
    root: Text,
    /// The folders to search, nearest first.
    pub(super) layers: Vec<Layer>,
    pub(super) packages: List,
    pub(super) pods: List,
    pub(super) parameters: List,
    pub(super) module_groups: List,
    pub(super) modules: List,
    pub(super) budget: Budget,
    name: Option<(Text, Spanned<String>)>,
    date: Option<(Text, Spanned<Datetime>)>,
    kernel: Option<(Text, Spanned<String>)>,
    compression: Option<(Text, Spanned<String>)>,
    module_compression: Option<(Text, Spanned<String>)>,
    cluster_kib: Option<(Text, Spanned<u32>)>,
}

impl Item {
    pub(super) fn builtin(name: &str) -> Self {
        Self { text: None, name: Spanned::new(0..0, name.to_owned()) }
    }

    pub(super) fn error(&self, cause: impl Display) -> Error {
        match &self.text {
            Some(text) if self.name.span() != (0..0) => text.error(&self.name, cause),
            Some(text) => text.whole(cause),
            None => anyhow!("{cause} (the builder itself needs it)"),
        }
    }
}

impl List {
    pub(super) fn error(&self, item: &Spanned<String>, cause: &str) -> Error {
        Item { text: self.text.clone(), name: item.clone() }.error(cause)
    }

    pub(super) fn whole(&self, key: &str, cause: &str) -> Error {
        match &self.text {
            Some(text) => text.whole(format!("`{key}`: {cause}")),
            None => anyhow!("`{key}`: {cause}"),
        }
    }

    /// Adds names that no file has; names that are already there are left alone.
    pub(super) fn add(&mut self, names: &[String]) {
        for name in names {
            if self.items.iter().all(|item| item.get_ref() != name) {
                self.items.push(Spanned::new(0..0, name.clone()));
            }
        }
    }

    fn take(&mut self, text: &Text, items: Option<Vec<Spanned<String>>>) {
        if let (None, Some(items)) = (&self.text, items) {
            *self = Self { text: Some(text.clone()), items };
        }
    }
}

impl Merged {
    pub(super) fn load(read: Read<'_>, path: &Path) -> Result<Self> {
        let root = Text::read(read, path)?;
        let mut merged = Self {
            root: root.clone(),
            layers: Vec::new(),
            packages: List::default(),
            pods: List::default(),
            parameters: List::default(),
            module_groups: List::default(),
            modules: List::default(),
            budget: Budget { uki_mib: 0, uki_limit_mib: 0, executables: 0, init_kib: 0 },
            name: None,
            date: None,
            kernel: None,
            compression: None,
            module_compression: None,
            cluster_kib: None,
        };
        let mut budget = raw::Budget::default();
        let mut seen = BTreeSet::new();
        let mut next = Some(root);
        while let Some(text) = next {
            let raw: raw::Build = text.toml()?;
            seen.insert(text.path.clone());
            next = inherited(read, &text, raw.inherit.as_ref(), &seen)?;
            merge_budget(&mut budget, &raw.budget);
            merged.take(&text, raw);
        }
        merged.budget = merged.check_budget(&budget)?;
        Ok(merged)
    }

    fn take(&mut self, text: &Text, raw: raw::Build) {
        self.add_layer(text, text.folder());
        for folder in raw.folders.unwrap_or_default() {
            self.add_layer(text, &text.folder().join(folder.get_ref()));
        }
        self.packages.take(text, raw.packages);
        self.pods.take(text, raw.pods);
        self.parameters.take(text, raw.parameters);
        self.module_groups.take(text, raw.module_groups);
        self.modules.take(text, raw.modules);
        first(&mut self.name, text, raw.name);
        first(&mut self.date, text, raw.date);
        first(&mut self.kernel, text, raw.kernel);
        first(&mut self.compression, text, raw.compression);
        first(&mut self.module_compression, text, raw.module_compression);
        first(&mut self.cluster_kib, text, raw.cluster_kib);
    }

    /// Several build files may lie in one folder: the nearest one counts.
    fn add_layer(&mut self, text: &Text, folder: &Path) {
        if self.layers.iter().all(|layer| layer.folder != folder) {
            let inherited = text.path != self.root.path;
            self.layers.push(Layer { folder: folder.to_owned(), inherited });
        }
    }

    /// Reads a file from the nearest layer that has it.
    pub(super) fn find(&self, read: Read<'_>, file: &Path) -> Result<Option<Text>> {
        for layer in &self.layers {
            if let Some(text) = Text::find(read, &layer.folder.join(file))? {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }

    /// Lists the layers, for an error message.
    pub(super) fn places(&self) -> String {
        let places: Vec<String> =
            self.layers.iter().map(|layer| layer.folder.display().to_string()).collect();
        places.join(", ")
    }

    pub(super) fn name(&self) -> Result<String> {
        let (text, name) = self.name.as_ref().ok_or_else(|| self.missing("name = \"kiln\""))?;
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.get_ref().is_empty() || !name.get_ref().chars().all(good) {
            return Err(text.error(name, "a name has lower-case letters, digits and `-` only"));
        }
        Ok(name.get_ref().clone())
    }

    /// Returns midnight UTC of the given day, in seconds since 1970.
    pub(super) fn date(&self) -> Result<u32> {
        let (text, date) = self.date.as_ref().ok_or_else(|| self.missing("date = 2026-11-21"))?;
        let seconds = match (date.get_ref().date, date.get_ref().time) {
            (Some(day), None) => {
                let (year, month, day) = (day.year.into(), day.month.into(), day.day.into());
                Civil::midnight(year, month, day).seconds().and_then(|it| u32::try_from(it).ok())
            }
            _ => None,
        };
        seconds.ok_or_else(|| {
            text.error(date, "must be a day from 1970 to 2105, without a time, like 2026-11-21")
        })
    }

    pub(super) fn kernel(&self) -> Result<Item> {
        let (text, name) =
            self.kernel.as_ref().ok_or_else(|| self.missing("kernel = \"cloud\""))?;
        Ok(Item { text: Some(text.clone()), name: name.clone() })
    }

    pub(super) fn compression(&self) -> Result<Compression> {
        let wanted =
            self.compression.as_ref().ok_or_else(|| self.missing("compression = \"lz4hc,12\""))?;
        let (text, value) = wanted;
        match Compression::parse(value.get_ref()) {
            Some(found) if !matches!(found, Compression::Lzma(_)) => Ok(found),
            _ => Err(text
                .error(value, "must be `none`, `lz4hc,LEVEL` (1 to 12) or `zstd,LEVEL` (1 to 22)")),
        }
    }

    pub(super) fn module_compression(&self) -> Result<Compression> {
        let wanted = self.module_compression.as_ref();
        let (text, value) =
            wanted.ok_or_else(|| self.missing("module-compression = \"lzma,6\""))?;
        match Compression::parse(value.get_ref()) {
            Some(found) if found != Compression::None => Ok(found),
            _ => Err(text.error(
                value,
                "must be `lz4hc,LEVEL` (1 to 12), `zstd,LEVEL` (1 to 22) or `lzma,LEVEL` (0 to 9)",
            )),
        }
    }

    pub(super) fn cluster_kib(&self) -> Result<u32> {
        let wanted = self.cluster_kib.as_ref().ok_or_else(|| self.missing("cluster-kib = 64"))?;
        let (text, value) = wanted;
        if !value.get_ref().is_power_of_two() || !(4..=1024).contains(value.get_ref()) {
            return Err(text.error(value, "must be a power of two from 4 to 1024"));
        }
        Ok(*value.get_ref())
    }

    fn check_budget(&self, raw: &raw::Budget) -> Result<Budget> {
        let missing = |key: &str| self.missing(&format!("{key} = …` below `[budget]"));
        Ok(Budget {
            uki_mib: raw.uki_mib.ok_or_else(|| missing("uki-mib"))?,
            uki_limit_mib: raw.uki_limit_mib.ok_or_else(|| missing("uki-limit-mib"))?,
            executables: raw.executables.ok_or_else(|| missing("executables"))?,
            init_kib: raw.init_kib.ok_or_else(|| missing("init-kib"))?,
        })
    }

    fn missing(&self, example: &str) -> Error {
        self.root.whole(format!(
            "a key is missing in this file and in those that it inherits: add `{example}`"
        ))
    }
}

fn first<T>(slot: &mut Option<(Text, Spanned<T>)>, text: &Text, value: Option<Spanned<T>>) {
    if slot.is_none() {
        *slot = value.map(|value| (text.clone(), value));
    }
}

fn merge_budget(into: &mut raw::Budget, from: &raw::Budget) {
    into.uki_mib = into.uki_mib.or(from.uki_mib);
    into.uki_limit_mib = into.uki_limit_mib.or(from.uki_limit_mib);
    into.executables = into.executables.or(from.executables);
    into.init_kib = into.init_kib.or(from.init_kib);
}

fn inherited(
    read: Read<'_>,
    text: &Text,
    inherit: Option<&Spanned<String>>,
    seen: &BTreeSet<PathBuf>,
) -> Result<Option<Text>> {
    let Some(name) = inherit else { return Ok(None) };
    let path = normal(&text.folder().join(name.get_ref()));
    if seen.contains(&path) {
        return Err(text.error(name, format!("{} is already inherited", path.display())));
    }
    let parent = Text::read(read, &path)
        .map_err(|error| text.error(name, format!("cannot inherit: {error:#}")))?;
    Ok(Some(parent))
}

/// Removes `.` and `..` by name alone, so that one file has one path.
fn normal(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(out.components().next_back(), Some(Component::Normal(_))) =>
            {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}
