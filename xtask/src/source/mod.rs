//! The kinds of source: how a package's files are described, planned and made.
//!
//! A kind is one file: its table in pkg.toml with the checks, the facts that it needs, its recipe,
//! the making and the version. Each implements [`Kind`]. The list of kinds is [`Table`] and
//! [`Source`] here; the revisions of their code are in `revision.rs`.

pub mod cargo;
pub mod crates;
pub mod deb;
pub mod go;
mod kind;
pub mod musl;
mod smoke;
mod url;

use anyhow::Result;
use serde::Deserialize;
use toml::Spanned;

pub use kind::{Download, Facts, Kind, Known, Making, Smoke, Subject, Toolchain};

use crate::arch::Arch;
use crate::lock::Request;
use crate::text::Text;
use kind::Place;

/// The source of a package's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Go programs out of the module proxy.
    Go(go::Go),
    /// Files out of a Debian package.
    Deb(deb::Deb),
    /// A crate of this workspace.
    Crate(crates::Crate),
    /// A file or an archive from elsewhere.
    Url(url::Url),
}

/// `[source.KIND]` as it is written: exactly one of them.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Table {
    go: Option<go::Table>,
    deb: Option<deb::Table>,
    #[serde(rename = "crate")]
    crate_: Option<crates::Table>,
    url: Option<url::Table>,
}

impl Source {
    /// Returns the source as the stages see it.
    pub fn kind(&self) -> &dyn Kind {
        match self {
            Self::Go(go) => go,
            Self::Deb(deb) => deb,
            Self::Crate(crate_) => crate_,
            Self::Url(url) => url,
        }
    }

    /// Checks the table of one package.
    pub fn check(table: &Spanned<Table>, text: &Text, arch: Arch) -> Result<Self> {
        let place = &Place { text, span: table.span(), arch };
        let Table { go, deb, crate_, url } = table.get_ref();
        let kinds = [
            go.as_ref().map(|table| table.check(place).map(Self::Go)),
            deb.as_ref().map(|table| Ok(Self::Deb(table.check(place)))),
            crate_.as_ref().map(|table| Ok(Self::Crate(table.check()))),
            url.as_ref().map(|table| table.check(place).map(Self::Url)),
        ];
        let mut found: Vec<_> = kinds.into_iter().flatten().collect();
        match found.pop() {
            Some(source) if found.is_empty() => source,
            rest => {
                let count = found.len() + usize::from(rest.is_some());
                Err(place.error(format!(
                    "a package has exactly one [source.KIND] table, but this one has {count}"
                )))
            }
        }
    }
}

impl Table {
    /// Returns the names of Debian packages that `update` resolves for this table.
    pub fn requests(&self) -> Vec<Request> {
        self.deb.as_ref().map(deb::Table::requests).unwrap_or_default()
    }
}
