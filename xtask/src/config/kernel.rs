//! `kernel/NAME.toml`: the kernel's package, the chosen modules, and the options that it must have
//! been built with.

use std::collections::BTreeMap;

use anyhow::Result;
use toml::Spanned;

use super::layers::Item;
use super::raw;
use crate::text::Text;

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
    /// The required kernel configuration: option → `y` or `m`.
    pub options: BTreeMap<String, String>,
}

impl Kernel {
    pub(super) fn parse(text: &Text) -> Result<Self> {
        let raw: raw::Kernel = text.toml()?;
        for (option, value) in &raw.options {
            if !option.starts_with("CONFIG_") || !matches!(value.as_str(), "y" | "m") {
                return Err(text.whole(format!(
                    "[options] `{option}` = `{value}`: write CONFIG_NAME = \"y\" or \"m\""
                )));
            }
        }
        Ok(Self {
            package: Item { text: Some(text.clone()), name: raw.package },
            early: names(text, raw.early_modules)?,
            load: names(text, raw.load)?,
            modules: names(text, raw.modules)?,
            options: raw.options,
        })
    }

    /// The package's name.
    pub fn package(&self) -> &str {
        self.package.name.get_ref()
    }

    /// Returns every module that the file names, each once, in order.
    pub fn wanted(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for name in self.early.iter().chain(&self.load).chain(&self.modules) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        names
    }
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
