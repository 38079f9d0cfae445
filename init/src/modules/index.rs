//! depmod's text indexes: the modules that a name or alias needs, in load order.
//!
//! File formats: modules.dep(5), modprobe.d(5) for `softdep`, and depmod's comments in the files.
//! The builder makes the indexes, so nothing that it can know is computed here.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kiln_contract::path;

use super::aliases::Aliases;
use super::name::{canonical, name_of};
use super::pattern::{self, matches};
use super::settings::Settings;

/// The depth up to which dependencies are followed. The deepest chain in a kernel is about ten.
const DEPTH_MAX: usize = 32;

/// True if a module matches one of these modaliases, or if there is no list. It reads only depmod's
/// list of aliases, which is much faster than reading the whole [`Index`].
#[must_use]
pub fn may_have_driver(modaliases: &[String]) -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let list = Path::new(path::MODULES).join(release).join("modules.alias");
    fs::read_to_string(list).map_or(true, |list| is_listed(&list, modaliases))
}

fn is_listed(list: &str, modaliases: &[String]) -> bool {
    let names: Vec<String> = modaliases.iter().map(|name| canonical(name)).collect();
    list.lines()
        .filter_map(parse_alias)
        .any(|(pattern, _)| names.iter().any(|name| matches(pattern.as_bytes(), name.as_bytes())))
}

/// The content of depmod's indexes.
#[derive(Debug, Default)]
pub struct Index {
    folder: PathBuf,
    /// The name of a module, with its file and the modules that it needs, nearest first.
    files: HashMap<String, (String, Vec<String>)>,
    aliases: Aliases,
    soft: HashMap<String, Soft>,
    builtin: HashSet<String>,
    builtin_aliases: Aliases,
}

/// Modules to load before and after another one, if they exist.
#[derive(Debug, Default)]
struct Soft {
    before: Vec<String>,
    after: Vec<String>,
}

/// A module to load.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModuleFile {
    /// The canonical name.
    pub name: String,
    /// The absolute path.
    pub file: PathBuf,
}

/// The result of a search for a name or alias.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// The modules to load, in this order.
    Load(Vec<ModuleFile>),
    /// Built into the kernel: nothing to load.
    Builtin,
    /// No module has this name or alias.
    Unknown,
}

impl Index {
    /// Reads the indexes of the running kernel.
    pub fn of_running_kernel() -> Result<Self> {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let folder = Path::new(path::MODULES).join(release);
        let read = |name: &str| fs::read_to_string(folder.join(name));
        let dep =
            read("modules.dep").with_context(|| format!("cannot read {}", folder.display()))?;
        let [alias, soft, builtin, builtin_alias] =
            ["modules.alias", "modules.softdep", "modules.builtin", path::BUILTIN_ALIASES]
                .map(|name| read(name).unwrap_or_default());
        Ok(Self::parse(&folder, &dep, &alias, &soft, &builtin, &builtin_alias))
    }

    /// Parses the five text files. Malformed lines are skipped.
    #[must_use]
    pub fn parse(
        folder: &Path,
        dep: &str,
        alias: &str,
        soft: &str,
        builtin: &str,
        builtin_alias: &str,
    ) -> Self {
        Self {
            folder: folder.to_owned(),
            files: dep.lines().filter_map(parse_dep).collect(),
            aliases: alias.lines().filter_map(parse_alias).collect(),
            soft: soft.lines().filter_map(parse_soft).collect(),
            builtin: builtin.lines().map(name_of).collect(),
            builtin_aliases: builtin_alias.lines().filter_map(parse_alias).collect(),
        }
    }

    /// Adds the owner's aliases and soft dependencies, and removes the aliases of hidden
    /// modules.
    #[must_use]
    pub fn configured(mut self, settings: &Settings) -> Self {
        settings.aliases.iter().cloned().for_each(|alias| self.aliases.add(alias));
        self.aliases.retain(|module| !settings.hides(module));
        self.soft.extend(settings.soft.lines().filter_map(parse_soft));
        self
    }

    /// Returns the folder of the modules.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Finds the modules for a module's name, or for an alias such as `fs-ext4` or a modalias.
    #[must_use]
    pub fn find(&self, name: &str) -> Found {
        let name = canonical(name);
        if self.files.contains_key(&name) {
            return Found::Load(self.with_needs([name.as_str()]));
        }
        let modules = self.aliases.matching(&name).filter(|name| self.files.contains_key(*name));
        let files = self.with_needs(modules);
        if !files.is_empty() {
            return Found::Load(files);
        }
        let builtin = self.builtin.contains(&name)
            || self.aliases.matching(&name).any(|module| self.builtin.contains(module))
            || self.builtin_aliases.matching(&name).next().is_some();
        if builtin { Found::Builtin } else { Found::Unknown }
    }

    /// Returns modules with everything that they need, in load order, each once.
    fn with_needs<'a>(&'a self, modules: impl IntoIterator<Item = &'a str>) -> Vec<ModuleFile> {
        let (mut files, mut seen) = (Vec::new(), HashSet::new());
        for module in modules {
            self.visit(module, 0, &mut seen, &mut files);
        }
        files
    }

    /// Adds a module after the modules that it needs. `modules.dep` lists all of them, nearest
    /// first, so the last one is loaded first. Soft dependencies may form cycles and may name
    /// missing modules.
    fn visit<'a>(
        &'a self,
        name: &'a str,
        depth: usize,
        seen: &mut HashSet<&'a str>,
        files: &mut Vec<ModuleFile>,
    ) {
        let Some((own, (file, needs))) = self.files.get_key_value(name) else { return };
        if depth > DEPTH_MAX || !seen.insert(own) {
            return;
        }
        let soft = self.soft.get(name);
        for before in soft.iter().flat_map(|soft| &soft.before).chain(needs.iter().rev()) {
            self.visit(before, depth + 1, seen, files);
        }
        files.push(ModuleFile { name: own.clone(), file: self.folder.join(file) });
        for after in soft.iter().flat_map(|soft| &soft.after) {
            self.visit(after, depth + 1, seen, files);
        }
    }
}

/// Parses `kernel/a.ko: kernel/b.ko kernel/c.ko`, in which the last module must be loaded first.
fn parse_dep(line: &str) -> Option<(String, (String, Vec<String>))> {
    let (file, needs) = line.split_once(':')?;
    let needs = needs.split_ascii_whitespace().map(name_of).collect();
    Some((name_of(file), (file.to_owned(), needs)))
}

/// Parses `alias PATTERN MODULE`.
fn parse_alias(line: &str) -> Option<(String, String)> {
    let rest = line.strip_prefix("alias ")?;
    let (pattern, module) = rest.rsplit_once(' ')?;
    Some((pattern::canonical(pattern.trim()), canonical(module)))
}

/// Parses `softdep MODULE pre: a b post: c`.
fn parse_soft(line: &str) -> Option<(String, Soft)> {
    let mut words = line.strip_prefix("softdep ")?.split_ascii_whitespace();
    let name = canonical(words.next()?);
    let mut soft = Soft::default();
    let mut into = &mut soft.before;
    for word in words {
        match word {
            "pre:" => into = &mut soft.before,
            "post:" => into = &mut soft.after,
            module => into.push(canonical(module)),
        }
    }
    Some((name, soft))
}

#[cfg(test)]
mod tests;
