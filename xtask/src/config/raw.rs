//! The tables of build.toml, kernel/NAME.toml and pkg.toml as they are written, key by key.
//!
//! Private to `config`. Unknown keys are refused here; everything else is checked where the public
//! types are made.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;
use toml::value::Datetime;

use crate::source;

/// A build file. Every key is optional, because an inherited file may have it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Build {
    pub(super) inherit: Option<Spanned<String>>,
    pub(super) name: Option<Spanned<String>>,
    pub(super) date: Option<Spanned<Datetime>>,
    pub(super) kernel: Option<Spanned<String>>,
    pub(super) module_groups: Option<Vec<Spanned<String>>>,
    pub(super) modules: Option<Vec<Spanned<String>>>,
    pub(super) parameters: Option<Vec<Spanned<String>>>,
    pub(super) packages: Option<Vec<Spanned<String>>>,
    pub(super) pods: Option<Vec<Spanned<String>>>,
    pub(super) folders: Option<Vec<Spanned<String>>>,
    pub(super) compression: Option<Spanned<String>>,
    pub(super) module_compression: Option<Spanned<String>>,
    pub(super) cluster_kib: Option<Spanned<u32>>,
    #[serde(default)]
    pub(super) budget: Budget,
}

/// Upper bounds that `size` and `build` hold the image to.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Budget {
    pub(super) uki_mib: Option<u64>,
    pub(super) uki_limit_mib: Option<u64>,
    pub(super) executables: Option<usize>,
    pub(super) init_kib: Option<u64>,
}

/// kernel/NAME.toml.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Kernel {
    pub(super) package: Spanned<String>,
    pub(super) early_modules: Vec<Spanned<String>>,
    pub(super) load: Vec<Spanned<String>>,
    pub(super) modules: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) groups: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) group: BTreeMap<String, Group>,
    #[serde(default)]
    pub(super) options: BTreeMap<String, String>,
}

/// `[group.NAME]` of a kernel.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Group {
    pub(super) about: String,
    pub(super) modules: Vec<Spanned<String>>,
}

/// pkgs/NAME/pkg.toml.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Package {
    pub(super) about: String,
    pub(super) license: String,
    pub(super) source: Spanned<source::Table>,
    pub(super) output: Option<Spanned<OutputTable>>,
    pub(super) smoke: Option<Smoke>,
}

/// `[output.KIND]`: at most one of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct OutputTable {
    pub(super) rootfs: Option<BTreeMap<String, String>>,
    pub(super) image: Option<Image>,
    pub(super) host: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Image {
    pub(super) entrypoint: Vec<String>,
    pub(super) user: Spanned<String>,
    pub(super) name: Option<Spanned<String>>,
    pub(super) base: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) files: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) folders: BTreeMap<String, Spanned<String>>,
    #[serde(default)]
    pub(super) packs: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Smoke {
    pub(super) command: Vec<String>,
    pub(super) expect: String,
}
