//! A configuration file's text, and errors that name its file and line.

use std::fmt::Display;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Error, Result, anyhow};
use serde::de::DeserializeOwned;
use toml::Spanned;

/// Reads a file's text. Parsers see the disk through this function only, and tests pass a table.
pub type Read<'a> = &'a dyn Fn(&Path) -> std::io::Result<String>;

/// One file as it was read.
#[derive(Debug, Clone)]
pub struct Text {
    pub path: PathBuf,
    body: String,
}

impl Text {
    /// Reads a file that must exist.
    pub fn read(read: Read<'_>, path: &Path) -> Result<Self> {
        match read(path) {
            Ok(body) => Ok(Self { path: path.to_owned(), body }),
            Err(error) => Err(anyhow!("cannot read {}: {error}", path.display())),
        }
    }

    /// Reads a file that may be missing.
    pub fn find(read: Read<'_>, path: &Path) -> Result<Option<Self>> {
        match read(path) {
            Err(error) if is_absent(&error) => Ok(None),
            _ => Self::read(read, path).map(Some),
        }
    }

    /// Parses TOML into a type that refuses unknown keys.
    pub fn toml<T: DeserializeOwned>(&self) -> Result<T> {
        toml::from_str(&self.body).map_err(|error| {
            let cause = error.message().replace('\n', " ");
            match error.span() {
                Some(span) => self.error_at(&span, cause),
                None => anyhow!("{}: {cause}", self.path.display()),
            }
        })
    }

    /// Parses YAML.
    pub fn yaml<T: DeserializeOwned>(&self) -> Result<T> {
        serde_saphyr::from_str(&self.body).map_err(|error| {
            let line = error.location().map_or(1, |location| location.line());
            let text = error.without_snippet().to_string().replace('\n', " ");
            anyhow!("{}:{line}: {text}", self.path.display())
        })
    }

    /// An error about one value.
    pub fn error<T>(&self, value: &Spanned<T>, cause: impl Display) -> Error {
        self.error_at(&value.span(), cause)
    }

    /// An error about the whole file.
    pub fn whole(&self, cause: impl Display) -> Error {
        anyhow!("{}: {cause}", self.path.display())
    }

    /// An error about one line, counted from 1.
    pub fn line(&self, line: u64, cause: impl Display) -> Error {
        anyhow!("{}:{line}: {cause}", self.path.display())
    }

    /// The folder that contains the file.
    pub fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// The text itself.
    pub fn body(&self) -> &str {
        &self.body
    }

    /// An error about a range of bytes.
    pub fn error_at(&self, span: &Range<usize>, cause: impl Display) -> Error {
        let before = self.body.get(..span.start).unwrap_or(&self.body);
        let line = 1 + before.matches('\n').count();
        anyhow!("{}:{line}: {}: {cause}", self.path.display(), self.key_on(line))
    }

    /// The key that a line sets, or the list item that the line holds.
    fn key_on(&self, line: usize) -> String {
        let text = self.body.lines().nth(line - 1).unwrap_or("").trim();
        let key = text.split('=').next().unwrap_or("").trim();
        format!("`{}`", key.trim_end_matches(','))
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}
