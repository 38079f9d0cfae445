//! Kernel modules: those of the archive, and depmod's text indexes for all others.
//!
//! File formats: modules.dep(5), modprobe.d(5) for `softdep`, and depmod's comments in the files.
//! The builder makes the indexes, so nothing is computed here that could be known then.

use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kiln_contract::{archive, path};
use rustix::io::Errno;

use crate::kmsg;
use crate::mounts::Early;

/// Proof that the archive's modules are loaded.
#[derive(Debug)]
pub struct Loaded(());

/// Loads the archive's modules in the builder's order.
///
/// A module that fails is a warning: if the root needs it, mounting the root says so.
pub fn load_archive(_: Early) -> Result<Loaded> {
    let order = fs::read_to_string(archive::MODULE_ORDER).unwrap_or_default();
    for name in order.lines().map(str::trim).filter(|name| !name.is_empty()) {
        let file = Path::new(archive::MODULES).join(name);
        let _ = kmsg::warn_on_error(load_file(&file, ""));
    }
    Ok(Loaded(()))
}

/// Loads one module file; one that is loaded already is fine.
pub fn load_file(file: &Path, options: &str) -> Result<()> {
    let open = File::open(file).with_context(|| format!("open {}", file.display()))?;
    let options = CString::new(options)?;
    match rustix::system::finit_module(&open, &options, 0) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("load module {}", file.display())),
    }
}

/// A module's name as the kernel has it: `-` and `_` are the same.
#[must_use]
pub fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// The name of a module from its file, such as `kernel/fs/erofs/erofs.ko`.
fn name_of(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    canonical(base.split(".ko").next().unwrap_or(base))
}

/// What depmod's indexes say.
#[derive(Debug, Default)]
pub struct Index {
    folder: PathBuf,
    /// Module name to its file and the files that it needs, nearest first.
    files: HashMap<String, (String, Vec<String>)>,
    /// Pattern and module name, in the file's order.
    aliases: Vec<(String, String)>,
    soft: HashMap<String, Soft>,
    builtin: HashSet<String>,
}

/// Modules to load before and after one, where they exist.
#[derive(Debug, Default)]
struct Soft {
    before: Vec<String>,
    after: Vec<String>,
}

/// One module to load: its name and file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Step {
    /// Canonical name.
    pub name: String,
    /// Absolute path.
    pub file: PathBuf,
}

/// What a name or alias stands for.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// Load these, in this order.
    Load(Vec<Step>),
    /// Part of the kernel: nothing to do.
    Builtin,
    /// Nothing by that name.
    Unknown,
}

impl Index {
    /// Reads the indexes of the running kernel.
    pub fn of_running_kernel() -> Result<Self> {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let folder = Path::new(path::MODULES).join(release);
        let read = |name: &str| fs::read_to_string(folder.join(name));
        let dep = read("modules.dep").with_context(|| format!("read {}", folder.display()))?;
        let [alias, soft, builtin] = ["modules.alias", "modules.softdep", "modules.builtin"]
            .map(|name| read(name).unwrap_or_default());
        Ok(Self::parse(&folder, &dep, &alias, &soft, &builtin))
    }

    /// Parses the four text files; lines that make no sense are skipped.
    #[must_use]
    pub fn parse(folder: &Path, dep: &str, alias: &str, soft: &str, builtin: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            files: dep.lines().filter_map(parse_dep).collect(),
            aliases: alias.lines().filter_map(parse_alias).collect(),
            soft: soft.lines().filter_map(parse_soft).collect(),
            builtin: builtin.lines().map(name_of).collect(),
        }
    }

    /// The folder of the modules.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What to load for a module's name or for an alias such as `fs-ext4` or a device's modalias.
    #[must_use]
    pub fn find(&self, name: &str) -> Found {
        let canonical = canonical(name);
        if self.files.contains_key(&canonical) {
            return Found::Load(self.steps(&canonical));
        }
        if self.builtin.contains(&canonical) {
            return Found::Builtin;
        }
        let mut steps = Vec::new();
        for module in self.matching(name) {
            steps.extend(self.steps(module));
        }
        if steps.is_empty() { Found::Unknown } else { Found::Load(unique(steps)) }
    }

    fn matching<'a>(&'a self, alias: &'a str) -> impl Iterator<Item = &'a str> {
        self.aliases
            .iter()
            .filter(move |(pattern, _)| matches(pattern.as_bytes(), alias.as_bytes()))
            .map(|(_, module)| module.as_str())
    }

    /// A module with everything that it needs, in load order.
    fn steps(&self, name: &str) -> Vec<Step> {
        let mut steps = Vec::new();
        let soft = self.soft.get(name);
        for before in soft.iter().flat_map(|soft| &soft.before) {
            self.hard_steps(before, &mut steps);
        }
        self.hard_steps(name, &mut steps);
        for after in soft.iter().flat_map(|soft| &soft.after) {
            self.hard_steps(after, &mut steps);
        }
        unique(steps)
    }

    fn hard_steps(&self, name: &str, steps: &mut Vec<Step>) {
        let Some((file, needs)) = self.files.get(name) else { return };
        let files = needs.iter().rev().chain(std::iter::once(file));
        steps.extend(files.map(|file| Step { name: name_of(file), file: self.folder.join(file) }));
    }
}

fn unique(steps: Vec<Step>) -> Vec<Step> {
    let mut seen = HashSet::new();
    steps.into_iter().filter(|step| seen.insert(step.name.clone())).collect()
}

/// `kernel/a.ko: kernel/b.ko kernel/c.ko`; the last one must be loaded first.
fn parse_dep(line: &str) -> Option<(String, (String, Vec<String>))> {
    let (file, needs) = line.split_once(':')?;
    let needs = needs.split_ascii_whitespace().map(str::to_owned).collect();
    Some((name_of(file), (file.to_owned(), needs)))
}

/// `alias PATTERN MODULE`.
fn parse_alias(line: &str) -> Option<(String, String)> {
    let rest = line.strip_prefix("alias ")?;
    let (pattern, module) = rest.rsplit_once(' ')?;
    Some((pattern.trim().to_owned(), canonical(module)))
}

/// `softdep MODULE pre: a b post: c`.
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

/// Shell patterns as fnmatch(3) has them without flags: `*`, `?` and `[set]`.
///
/// Takes time linear in pattern times text: after a mismatch only the last `*` is tried again.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            retry = Some((p + 1, t));
            p += 1;
        } else if let Some(length) = pattern.get(p..).and_then(|rest| one(rest, text[t])) {
            p += length;
            t += 1;
        } else if let Some((star, from)) = retry {
            retry = Some((star, from + 1));
            (p, t) = (star, from + 1);
        } else {
            return false;
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|&byte| byte == b'*')
}

/// The length of the pattern's first element, if that matches one byte.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match *pattern.first()? {
        b'?' => Some(1),
        b'[' => {
            let end = pattern.iter().position(|&byte| byte == b']')?;
            in_set(&pattern[1..end], byte).then_some(end + 1)
        }
        literal => (literal == byte).then_some(1),
    }
}

fn in_set(set: &[u8], byte: u8) -> bool {
    match set {
        [low, b'-', high, rest @ ..] => (*low..=*high).contains(&byte) || in_set(rest, byte),
        [single, rest @ ..] => *single == byte || in_set(rest, byte),
        [] => false,
    }
}

#[cfg(test)]
mod tests;
