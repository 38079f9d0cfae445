//! Kernel modules: those of the archive, and depmod's text indexes for all others.
//!
//! File formats: modules.dep(5), modprobe.d(5) for `softdep`, and depmod's comments in the files.
//! The builder makes the indexes, so nothing is computed here that could be known then.

mod aliases;
pub mod kernel;
mod pattern;
pub mod settings;

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kiln_contract::{archive, path};

pub use kernel::load_file;
pub use pattern::matches;

use crate::boot::mounts::Early;
use crate::console::kmsg;
use crate::machine::watchdog;
use aliases::Aliases;
use settings::Settings;

/// Dependencies of dependencies that are followed; the deepest chain in a kernel has about ten.
const DEPTH_MAX: usize = 32;

/// Enough for a path, a warning and two system calls.
const STACK: usize = 64 * 1024;

/// How long the root may wait for its module, which comes from memory.
pub const ROOT_DEADLINE: Duration = Duration::from_secs(30);

/// The archive's modules that a thread still loads.
#[derive(Debug)]
pub struct Beside {
    thread: JoinHandle<()>,
    /// Told once, or closed by a thread that has nothing to tell.
    root: Receiver<()>,
    stand_in: Option<Module>,
}

/// A module of the archive, opened while the archive is there.
#[derive(Debug)]
struct Module {
    name: String,
    file: io::Result<File>,
}

/// Loads the watchdog's modules and arms it. A thread loads the archive's others.
///
/// A module that fails is a warning: if the root needs it, mounting the root says so.
pub fn load_archive(_: &Early) -> Result<Beside> {
    let order = fs::read_to_string(archive::MODULE_ORDER).unwrap_or_default();
    let Order { first, others, stand_in } = Order::parse(&order);
    let others = others.into_iter().map(Module::open).collect::<Vec<_>>();
    let mut stand_in = stand_in.map(Module::open);
    let (root_can, root) = mpsc::channel::<()>();
    let work = move || {
        for module in others {
            module.load();
            if module.name == archive::ROOT_FILE_SYSTEM {
                let _ = root_can.send(());
            }
        }
    };
    let thread = thread::Builder::new().name("modules".into()).stack_size(STACK).spawn(work);
    let thread = thread.context("start a thread for modules")?;
    for module in first.into_iter().map(Module::open) {
        module.load();
        watchdog::arm();
    }
    arm_stand_in(&mut stand_in);
    Ok(Beside { thread, root, stand_in })
}

impl Beside {
    /// Waits until the root's file system is loaded, or nothing is left to load.
    pub fn wait_for_root(&self) -> Result<()> {
        match self.root.recv_timeout(ROOT_DEADLINE) {
            Err(RecvTimeoutError::Timeout) => bail!("{} does not load", archive::ROOT_FILE_SYSTEM),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Ok(()),
        }
    }

    /// Waits until all are loaded; then it is known whether there is a watchdog.
    pub fn join(mut self) {
        let _ = self.thread.join();
        watchdog::arm();
        arm_stand_in(&mut self.stand_in);
        watchdog::report_missing();
    }
}

/// The stand-in for a hardware watchdog, where none has come up.
fn arm_stand_in(stand_in: &mut Option<Module>) {
    // One that cannot be loaded yet may need what the thread loads.
    if stand_in.take_if(|module| !watchdog::is_armed() && module.load()).is_some() {
        watchdog::arm();
    }
}

impl Module {
    fn open(name: &str) -> Self {
        let file = File::open(Path::new(archive::MODULES).join(name));
        Self { name: name.into(), file }
    }

    /// True when it is loaded.
    fn load(&self) -> bool {
        let options = watchdog::module_options(&self.name);
        let loaded = match &self.file {
            Ok(file) => kernel::insert_open(file, options).map_err(io::Error::from),
            Err(error) => Err(io::Error::from(error.kind())),
        };
        let loaded = loaded.with_context(|| format!("load module {}", self.name));
        kmsg::warn_on_error(loaded).is_some()
    }
}

/// Who loads what, by [`archive::MODULE_ORDER`].
#[derive(Debug, PartialEq, Eq)]
struct Order<'a> {
    /// The first group, with the watchdog.
    first: Vec<&'a str>,
    /// All other groups, one after another, the one for the root before those for containerd.
    others: Vec<&'a str>,
    stand_in: Option<&'a str>,
}

impl<'a> Order<'a> {
    fn parse(order: &'a str) -> Self {
        let lines: Vec<&str> = order.lines().map(str::trim).collect();
        let mut groups: Vec<Vec<&str>> = lines
            .split(|name| name.is_empty())
            .map(|group| group.iter().copied().filter(|&name| !is_stand_in(name)).collect())
            .filter(|group: &Vec<_>| !group.is_empty())
            .collect();
        let others = groups.split_off(groups.len().min(1));
        Self {
            first: groups.concat(),
            others: others.concat(),
            stand_in: lines.iter().copied().find(|&name| is_stand_in(name)),
        }
    }
}

fn is_stand_in(name: &str) -> bool {
    name == archive::SOFT_WATCHDOG
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

/// Whether a module stands for one of these modaliases, by depmod's list alone: a look that costs
/// far less than the whole [`Index`]. True where there is no list.
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

/// What depmod's indexes say.
#[derive(Debug, Default)]
pub struct Index {
    folder: PathBuf,
    /// Module name to its file and the modules that it needs, nearest first.
    files: HashMap<String, (String, Vec<String>)>,
    aliases: Aliases,
    soft: HashMap<String, Soft>,
    builtin: HashSet<String>,
    builtin_aliases: Aliases,
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
        let [alias, soft, builtin, builtin_alias] =
            ["modules.alias", "modules.softdep", "modules.builtin", path::BUILTIN_ALIASES]
                .map(|name| read(name).unwrap_or_default());
        Ok(Self::parse(&folder, &dep, &alias, &soft, &builtin, &builtin_alias))
    }

    /// Parses the five text files; lines that make no sense are skipped.
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

    /// The index as the owner's settings change it: more aliases and soft dependencies, and no
    /// alias of a module that is hidden.
    #[must_use]
    pub fn configured(mut self, settings: &Settings) -> Self {
        settings.aliases.iter().cloned().for_each(|alias| self.aliases.add(alias));
        self.aliases.retain(|module| !settings.hides(module));
        self.soft.extend(settings.soft.lines().filter_map(parse_soft));
        self
    }

    /// The folder of the modules.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What to load for a module's name or for an alias such as `fs-ext4` or a device's modalias.
    #[must_use]
    pub fn find(&self, name: &str) -> Found {
        let name = canonical(name);
        if self.files.contains_key(&name) {
            return Found::Load(self.steps([name.as_str()]));
        }
        let modules = self.aliases.matching(&name).filter(|name| self.files.contains_key(*name));
        let steps = self.steps(modules);
        if !steps.is_empty() {
            return Found::Load(steps);
        }
        let builtin = self.builtin.contains(&name)
            || self.aliases.matching(&name).any(|module| self.builtin.contains(module))
            || self.builtin_aliases.matching(&name).next().is_some();
        if builtin { Found::Builtin } else { Found::Unknown }
    }

    /// Modules with everything that they need, in load order, each once.
    fn steps<'a>(&'a self, modules: impl IntoIterator<Item = &'a str>) -> Vec<Step> {
        let (mut steps, mut seen) = (Vec::new(), HashSet::new());
        for module in modules {
            self.visit(module, 0, &mut seen, &mut steps);
        }
        steps
    }

    /// `modules.dep` lists all that a module needs, nearest first, so that the last one is loaded
    /// first; soft dependencies may be circles, and may name what does not exist.
    fn visit<'a>(
        &'a self,
        name: &'a str,
        depth: usize,
        seen: &mut HashSet<&'a str>,
        steps: &mut Vec<Step>,
    ) {
        let Some((own, (file, needs))) = self.files.get_key_value(name) else { return };
        if depth > DEPTH_MAX || !seen.insert(own) {
            return;
        }
        let soft = self.soft.get(name);
        for before in soft.iter().flat_map(|soft| &soft.before).chain(needs.iter().rev()) {
            self.visit(before, depth + 1, seen, steps);
        }
        steps.push(Step { name: own.clone(), file: self.folder.join(file) });
        for after in soft.iter().flat_map(|soft| &soft.after) {
            self.visit(after, depth + 1, seen, steps);
        }
    }
}

/// `kernel/a.ko: kernel/b.ko kernel/c.ko`; the last one must be loaded first.
fn parse_dep(line: &str) -> Option<(String, (String, Vec<String>))> {
    let (file, needs) = line.split_once(':')?;
    let needs = needs.split_ascii_whitespace().map(name_of).collect();
    Some((name_of(file), (file.to_owned(), needs)))
}

/// `alias PATTERN MODULE`.
fn parse_alias(line: &str) -> Option<(String, String)> {
    let rest = line.strip_prefix("alias ")?;
    let (pattern, module) = rest.rsplit_once(' ')?;
    Some((pattern::canonical(pattern.trim()), canonical(module)))
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

#[cfg(test)]
mod tests;
