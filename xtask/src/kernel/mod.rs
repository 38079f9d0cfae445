//! The kernel: its image, the chosen modules with their dependencies, and depmod's indexes.
//!
//! Staged files: `vmlinuz`, `config`, `release`, `groups.json`, `early/` (modules for the archive,
//! and their order); for the root `lib/modules/RELEASE/`, and `boot/config-RELEASE`, which kubeadm,
//! Longhorn and others read on a node.

pub mod groups;
mod modinfo;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use crate::config::{Group, Kernel};
use crate::host::HostTool;
use crate::progress::Progress;
use crate::unpack::unxz;
use crate::walk;
use groups::{Grouped, LeftOut};

/// Indexes of depmod that neither kmod nor PID 1 reads.
const UNUSED_INDEXES: [&str; 4] =
    ["modules.symbols", "modules.symbols.bin", "modules.builtin.modinfo", "modules.order"];

/// The group of the modules that PID 1 loads before it mounts the root.
const EARLY: &str = "(early)";

/// An unpacked kernel package.
struct Package {
    dir: PathBuf,
    release: String,
    /// Module name → its compressed file.
    modules: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

/// Stages the kernel out of its unpacked package.
pub fn stage(
    kernel: &Kernel,
    package: &Path,
    depmod: &HostTool,
    out: &Path,
    progress: &Progress,
) -> Result<()> {
    let package = Package::read(package)?;
    package.check_options(kernel)?;
    fs::copy(package.dir.join(format!("boot/vmlinuz-{}", package.release)), out.join("vmlinuz"))?;
    fs::copy(package.config_path(), out.join("config"))?;
    fs::create_dir(out.join("boot"))?;
    fs::copy(package.config_path(), out.join("boot").join(package.config_name()))?;
    fs::write(out.join("release"), &package.release)?;

    let (order, grouped) = package.choose(kernel)?;
    groups::write(&grouped, out)?;
    let task = progress.task("kernel: modules", Some(order.len() as u64));
    let modules = out.join("lib/modules").join(&package.release);
    for name in &order {
        package.unpack(name, &modules)?;
        task.advance(1);
    }
    package.index(kernel, &modules, depmod, out)?;
    package.stage_early(kernel, &modules, &out.join("early"))
}

/// Returns the cost of each group that is not in the image, on top of the image.
pub fn left_out(kernel: &Kernel, package: &Path) -> Result<Vec<LeftOut>> {
    let package = Package::read(package)?;
    let (order, _) = package.choose(kernel)?;
    let present: BTreeSet<&String> = order.iter().collect();
    let cost = |group: &Group| {
        let (mut raw, mut compressed) = (0, 0);
        let closure = package.closure(&group.modules)?;
        for name in closure.iter().filter(|name| !present.contains(name)) {
            raw += package.read_module(name)?.len() as u64;
            compressed += package.lib().join(&package.modules[name]).metadata()?.len();
        }
        Ok(LeftOut { name: group.name.clone(), about: group.about.clone(), raw, compressed })
    };
    kernel.left_out.iter().map(cost).collect()
}

impl Package {
    fn read(dir: &Path) -> Result<Self> {
        let lib = dir.join("usr/lib/modules");
        let mut releases = fs::read_dir(&lib)
            .with_context(|| format!("cannot read the modules in {}", dir.display()))?;
        let release = releases.next().context("cannot find a kernel release")??.file_name();
        let release = release.into_string().map_err(|name| {
            anyhow!("cannot read the kernel release {}: not UTF-8", name.display())
        })?;
        let lib = lib.join(&release);
        let mut modules = BTreeMap::new();
        for found in walk::files(&lib.join("kernel"))? {
            let path = Path::new("kernel").join(found.path);
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            if let Some(stem) = file.strip_suffix(".ko.xz") {
                modules.insert(modinfo::module_name(stem), path);
            }
        }
        let list = fs::read_to_string(lib.join("modules.builtin"))
            .context("cannot read modules.builtin")?;
        let stem = |line: &str| Some(modinfo::module_name(Path::new(line).file_stem()?.to_str()?));
        let builtin = list.lines().filter_map(stem).collect();
        Ok(Self { dir: dir.to_owned(), release, modules, builtin })
    }

    fn lib(&self) -> PathBuf {
        self.dir.join("usr/lib/modules").join(&self.release)
    }

    fn config_name(&self) -> String {
        format!("config-{}", self.release)
    }

    fn config_path(&self) -> PathBuf {
        self.dir.join("boot").join(self.config_name())
    }

    /// Refuses a kernel that was built without a required option, because it would fail much later
    /// on the node.
    fn check_options(&self, kernel: &Kernel) -> Result<()> {
        let text = fs::read_to_string(self.config_path())
            .context("cannot read the kernel's config file")?;
        let lines: BTreeSet<&str> = text.lines().collect();
        let lacks = |(name, value): &(&String, &String)| {
            !lines.contains(format!("{name}={value}").as_str())
        };
        let missing: Vec<String> = kernel
            .options
            .iter()
            .filter(lacks)
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if !missing.is_empty() {
            bail!("kernel {} is not built with {}", self.release, missing.join(", "));
        }
        Ok(())
    }

    fn read_module(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.modules.get(name).ok_or_else(|| {
            anyhow!(
                "kernel {} has no module `{name}`; correct the name in the kernel's file",
                self.release
            )
        })?;
        let path = self.lib().join(path);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        unxz(&bytes).with_context(|| format!("cannot unpack {}", path.display()))
    }

    /// Returns the modules of the image, dependencies first, and those that a common node does not
    /// load from the root: the early ones, and those that only groups need.
    fn choose(&self, kernel: &Kernel) -> Result<(Vec<String>, Vec<Grouped>)> {
        let mut order = Vec::new();
        let early = self.group(&kernel.early, &mut order)?;
        let about = "in the archive; these copies are for `modprobe`";
        let early = Grouped { name: EARLY.to_owned(), about: about.to_owned(), paths: early };
        for name in kernel.common() {
            self.visit(name, &mut order)?;
        }
        let mut grouped = vec![early];
        for group in &kernel.groups {
            let paths = self.group(&group.modules, &mut order)?;
            grouped.push(Grouped { name: group.name.clone(), about: group.about.clone(), paths });
        }
        Ok((order, grouped))
    }

    /// Adds modules with their dependencies to `order`, and returns the paths of the added ones.
    fn group(&self, names: &[String], order: &mut Vec<String>) -> Result<Vec<String>> {
        let start = order.len();
        for name in names {
            self.visit(name, order)?;
        }
        let path = |name: &String| self.modules[name].with_extension("").display().to_string();
        Ok(order[start..].iter().map(path).collect())
    }

    /// Returns the modules and all their dependencies, dependencies first, each once, without
    /// built-in ones.
    fn closure(&self, wanted: &[String]) -> Result<Vec<String>> {
        let mut order = Vec::new();
        for name in wanted {
            self.visit(name, &mut order)?;
        }
        Ok(order)
    }

    fn visit(&self, name: &str, order: &mut Vec<String>) -> Result<()> {
        if order.iter().any(|done| done == name) || self.builtin.contains(name) {
            return Ok(());
        }
        let module = self.read_module(name)?;
        for dependency in modinfo::depends(&module).with_context(|| format!("module `{name}`"))? {
            // A soft dependency may be an alias of a built-in module, which has no file.
            if self.modules.contains_key(&dependency) {
                self.visit(&dependency, order)?;
            }
        }
        order.push(name.to_owned());
        Ok(())
    }

    fn unpack(&self, name: &str, into: &Path) -> Result<()> {
        let path = into.join(self.modules[name].with_extension(""));
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, self.read_module(name)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn index(&self, kernel: &Kernel, modules: &Path, depmod: &HostTool, out: &Path) -> Result<()> {
        for file in ["modules.builtin", "modules.builtin.modinfo", "modules.order"] {
            fs::copy(self.lib().join(file), modules.join(file))
                .with_context(|| format!("cannot copy {file}"))?;
        }
        let builtin = fs::read(modules.join("modules.builtin.modinfo"))?;
        let aliases = modinfo::builtin_aliases(&builtin);
        fs::write(modules.join(kiln_contract::path::BUILTIN_ALIASES), aliases)?;
        depmod.command()?.arg("-b").arg(out).arg(&self.release).output()?;
        for file in UNUSED_INDEXES {
            let _ = fs::remove_file(modules.join(file));
        }
        fs::write(modules.join(kiln_contract::path::MODULE_LIST), lines(&kernel.load))?;
        Ok(())
    }

    fn stage_early(&self, kernel: &Kernel, modules: &Path, early: &Path) -> Result<()> {
        fs::create_dir(early)?;
        let closures = kernel.early.iter().map(|name| self.closure(std::slice::from_ref(name)));
        let groups = groups(closures.collect::<Result<_>>()?);
        let mut order = Vec::new();
        for group in groups {
            if !order.is_empty() {
                order.push(String::new());
            }
            for name in group {
                let file = format!("{name}.ko");
                fs::copy(modules.join(self.modules[&name].with_extension("")), early.join(&file))?;
                order.push(file);
            }
        }
        fs::write(early.join("order"), lines(&order))?;
        Ok(())
    }
}

/// Joins modules that have a dependency in common into groups that can be loaded in parallel. Each
/// of `closures` is a module with its dependencies, in load order.
fn groups(closures: Vec<Vec<String>>) -> Vec<Vec<String>> {
    let mut groups: Vec<Vec<String>> = Vec::new();
    for closure in closures {
        let shares = |group: &Vec<String>| group.iter().any(|name| closure.contains(name));
        let place = groups.iter().position(shares).unwrap_or(groups.len());
        let joined: Vec<String> = groups.extract_if(.., |group| shares(group)).flatten().collect();
        let mut group = Vec::new();
        for name in joined.into_iter().chain(closure) {
            if !group.contains(&name) {
                group.push(name);
            }
        }
        groups.insert(place, group);
    }
    groups
}

fn lines(items: &[String]) -> String {
    items.iter().flat_map(|item| [item, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::groups;

    fn check(closures: &[&str], expected: &[&str]) {
        let words = |text: &&str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let found = groups(closures.iter().map(words).collect());
        assert_eq!(found, expected.iter().map(words).collect::<Vec<_>>());
    }

    #[test]
    fn modules_with_a_dependency_in_common_are_one_group() {
        check(
            &["watchdog i6300esb", "watchdog softdog", "libcrc32c erofs", "overlay"],
            &["watchdog i6300esb softdog", "libcrc32c erofs", "overlay"],
        );
    }

    #[test]
    fn a_module_that_joins_two_groups_comes_after_both() {
        check(&["a", "b", "c", "a c d", "b"], &["a c d", "b"]);
    }
}
