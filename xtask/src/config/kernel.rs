//! `kernel/NAME.toml`: the kernel's package, the chosen modules, and the options that it must have
//! been built with.

use std::collections::BTreeMap;

use anyhow::Result;
use toml::Spanned;

use super::layers::{Item, List, Merged};
use super::raw;
use crate::text::Text;

/// The name under which modules that a build file adds are listed as a group.
const ADDED: &str = "modules of the build file";

/// A kernel and its chosen modules.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The package that has the kernel, and the file that names it.
    pub(super) package: Item,
    /// Modules that PID 1 loads before it mounts the root, with their dependencies.
    pub early: Vec<String>,
    /// Modules that are loaded while containerd starts, on any hardware.
    pub load: Vec<String>,
    /// Modules in the root that are loaded on demand: for hardware that is found, and for
    /// containers that call modprobe.
    pub modules: Vec<String>,
    /// Groups of modules in the root that only some nodes or workloads need, in the order of the
    /// list that chooses them.
    pub groups: Vec<Group>,
    /// The groups that are not in the image.
    pub left_out: Vec<Group>,
    /// The required kernel configuration: option → `y` or `m`.
    pub options: BTreeMap<String, String>,
}

/// Modules that one use needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// The use, in a few words.
    pub about: String,
    /// Its modules.
    pub modules: Vec<String>,
}

impl Kernel {
    pub(super) fn parse(text: &Text, merged: &Merged) -> Result<Self> {
        let raw: raw::Kernel = text.toml()?;
        for (option, value) in &raw.options {
            if !option.starts_with("CONFIG_") || !matches!(value.as_str(), "y" | "m") {
                return Err(text.whole(format!(
                    "[options] `{option}` = `{value}`: write CONFIG_NAME = \"y\" or \"m\""
                )));
            }
        }
        let mut left_out = groups(text, raw.group)?;
        let own = List { text: Some(text.clone()), items: raw.groups };
        let chosen = if merged.module_groups.text.is_some() { &merged.module_groups } else { &own };
        let mut groups = choose(chosen, &mut left_out, text)?;
        groups.extend(added(&merged.modules)?);
        Ok(Self {
            package: Item { text: Some(text.clone()), name: raw.package },
            early: names(text, raw.early_modules)?,
            load: names(text, raw.load)?,
            modules: names(text, raw.modules)?,
            groups,
            left_out,
            options: raw.options,
        })
    }

    /// The package's name.
    pub fn package(&self) -> &str {
        self.package.name.get_ref()
    }

    /// Returns the modules that a common node loads from the root.
    pub fn common(&self) -> impl Iterator<Item = &String> {
        self.load.iter().chain(&self.modules)
    }
}

fn groups(text: &Text, raw: BTreeMap<String, raw::Group>) -> Result<Vec<Group>> {
    let group = |(name, raw): (String, raw::Group)| {
        Ok(Group { name, about: raw.about, modules: names(text, raw.modules)? })
    };
    raw.into_iter().map(group).collect()
}

/// Moves the chosen groups out of `known`.
fn choose(chosen: &List, known: &mut Vec<Group>, kernel: &Text) -> Result<Vec<Group>> {
    let mut found = Vec::new();
    for item in &chosen.items {
        let name = item.get_ref();
        if let Some(at) = known.iter().position(|group| group.name == *name) {
            found.push(known.remove(at));
        } else if !found.iter().any(|group: &Group| group.name == *name) {
            let names: Vec<&str> =
                found.iter().chain(&*known).map(|group| group.name.as_str()).collect();
            let cause = format!(
                "there is no group of modules `{name}`; {} has {}",
                kernel.path.display(),
                names.join(", ")
            );
            return Err(chosen.error(item, &cause));
        }
    }
    Ok(found)
}

/// Returns the modules that a build file adds, as a group.
fn added(modules: &List) -> Result<Option<Group>> {
    let Some(text) = &modules.text else { return Ok(None) };
    let modules = names(text, modules.items.clone())?;
    Ok(Some(Group { name: ADDED.to_owned(), about: "`modules`".to_owned(), modules }))
}

/// Checks that modules are named as `modinfo` prints them: `_`, never `-`, no path, no suffix.
fn names(text: &Text, names: Vec<Spanned<String>>) -> Result<Vec<String>> {
    let check = |name: Spanned<String>| {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.get_ref().is_empty() || !name.get_ref().chars().all(good) {
            return Err(text.error(&name, "a module's name has letters, digits and `_` only"));
        }
        Ok(name.into_inner())
    };
    names.into_iter().map(check).collect()
}

#[cfg(test)]
mod tests;
