//! `[source.url]`: a file or an archive from elsewhere, which the table itself pins.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result};
use serde::Deserialize;
use toml::Spanned;

use super::kind::{Kind, Known, Making, Place, Planned};
use super::smoke;
use crate::arch::Arch;
use crate::digest::{Digest, Recipe};
use crate::lock::Locked;
use crate::revision;
use crate::unpack;

/// The table as it is written: one file per architecture.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Table {
    #[serde(rename = "x86_64")]
    x86_64: Option<File>,
    aarch64: Option<File>,
    unpack: Option<Spanned<bool>>,
    executable: Option<Spanned<bool>>,
}

/// The table of one architecture.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    url: Spanned<String>,
    sha256: Spanned<String>,
    size: u64,
}

/// A file from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Its address, digest and size.
    file: Locked,
    /// The treatment of the file.
    form: Form,
}

/// The treatment of a downloaded file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Staged as it is.
    Plain,
    /// Staged as it is, with x bits.
    Program,
    /// Unpacked.
    Archive(unpack::Format),
}

impl Table {
    pub(super) fn check(&self, place: &Place<'_>) -> Result<Url> {
        let (arch, file) = match place.arch {
            Arch::X86_64 => ("x86_64", &self.x86_64),
            Arch::Aarch64 => ("aarch64", &self.aarch64),
        };
        let file = file.as_ref().ok_or_else(|| {
            place.error(format!("there is no file for {arch}; add a table `[source.url.{arch}]`"))
        })?;
        let sha256 = file.sha256.get_ref().parse();
        let sha256 = sha256
            .map_err(|_| place.text.error(&file.sha256, "sha256 must be 64 hexadecimal digits"))?;
        let locked = Locked::from_url(file.url.get_ref(), file.size, sha256);
        Ok(Url { form: self.form(place, file, &locked.name)?, file: locked })
    }

    fn form(&self, place: &Place<'_>, file: &File, name: &str) -> Result<Form> {
        let set = |key: &Option<Spanned<bool>>| key.as_ref().is_some_and(|set| *set.get_ref());
        let Some(unpack) = self.unpack.as_ref().filter(|unpack| *unpack.get_ref()) else {
            return Ok(if set(&self.executable) { Form::Program } else { Form::Plain });
        };
        if set(&self.executable) {
            return Err(place.text.error(unpack, "`executable` is for a single file, because an archive has its own x bits; remove one of the keys"));
        }
        let format = unpack::Format::of(name).ok_or_else(|| {
            let [first, second, third, last] = unpack::Format::ENDS;
            let ends = format!("{first}, {second}, {third} or {last}");
            let cause = format!("cannot unpack `{name}`: its name must end with {ends}");
            place.text.error(&file.url, cause)
        })?;
        Ok(Form::Archive(format))
    }
}

impl Kind for Url {
    fn plan(&self, known: &Known<'_>, _: &[Digest]) -> Result<Planned> {
        let recipe = Recipe::new(revision::URL)
            .digest("file", self.file.sha256)
            .field("name", &self.file.name)
            .field("form", format!("{:?}", self.form))
            .field("smoke", format!("{:?}", known.package.smoke));
        let downloads = vec![self.file.clone()];
        Ok(Planned { fetch: None, downloads, digest: recipe.finish() })
    }

    fn stage(&self, making: &Making<'_>) -> Result<()> {
        for file in &making.downloads {
            if let Form::Archive(format) = self.form {
                let _task = making.progress.task(&format!("{}: unpack", making.package.name), None);
                unpack::archive(&file.path, format, making.out)?;
                continue;
            }
            let staged = making.out.join(&file.name);
            let context = || format!("cannot write {}", staged.display());
            fs::copy(&file.path, &staged).with_context(context)?;
            let mode = if self.form == Form::Program { 0o755 } else { 0o644 };
            fs::set_permissions(&staged, Permissions::from_mode(mode)).with_context(context)?;
        }
        smoke::run(&making.package, making.out)
    }

    /// The table has no version; the report shows the digest.
    fn version(&self, _: &Known<'_>) -> Result<Option<String>> {
        Ok(None)
    }
}
