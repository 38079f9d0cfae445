//! The files as they are written: build.toml, kernel/NAME.toml and pkg.toml, key by key.
//!
//! Private to `config`. Unknown keys are refused here, everything else is checked where the public
//! types are made.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;
use toml::value::Datetime;

/// A build file. Every key is optional, because an inherited file may have it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Build {
    pub(super) inherit: Option<Spanned<String>>,
    pub(super) name: Option<Spanned<String>>,
    pub(super) date: Option<Spanned<Datetime>>,
    pub(super) kernel: Option<Spanned<String>>,
    pub(super) parameters: Option<Vec<Spanned<String>>>,
    pub(super) packages: Option<Vec<Spanned<String>>>,
    pub(super) pods: Option<Vec<Spanned<String>>>,
    pub(super) folders: Option<Vec<Spanned<String>>>,
    pub(super) compression: Option<Spanned<String>>,
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
    pub(super) options: BTreeMap<String, String>,
}

/// pkgs/NAME/pkg.toml.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Package {
    pub(super) about: String,
    pub(super) license: String,
    pub(super) source: Spanned<SourceTable>,
    pub(super) output: Option<Spanned<OutputTable>>,
    pub(super) smoke: Option<Smoke>,
}

/// `[source.KIND]`: exactly one of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct SourceTable {
    pub(super) go: Option<Go>,
    pub(super) deb: Option<Deb>,
    #[serde(rename = "crate")]
    pub(super) crate_: Option<Crate>,
    pub(super) url: Option<Url>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Go {
    pub(super) programs: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) tags: Vec<String>,
    pub(super) version_of: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) variables: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) cgo: bool,
    #[serde(default)]
    pub(super) libraries: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) ldflags: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Deb {
    pub(super) package: String,
    #[serde(default)]
    pub(super) closure: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Crate {
    pub(super) package: String,
    #[serde(default)]
    pub(super) features: Vec<String>,
    pub(super) libc: Option<Spanned<String>>,
}

/// One file per architecture, keyed by `x86_64` and `aarch64`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Url {
    #[serde(rename = "x86_64")]
    pub(super) x86_64: Option<Remote>,
    pub(super) aarch64: Option<Remote>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Remote {
    pub(super) url: String,
    pub(super) sha256: Spanned<String>,
    pub(super) size: u64,
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
