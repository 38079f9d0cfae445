//! The files of a folder, by path, with all their bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use rustix::fs::Stat;
use static_server::folder::walk::{Trouble, Visitor, walk};
use static_server::index::assemble::RULES;
use static_server::rules::{Rules, check_size};

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The time of the last change, in seconds since 1970.
    pub modified: Option<u64>,
}

/// Everything that goes into a pack.
#[derive(Debug, Default)]
pub struct Gathered {
    /// Files by path; sorted, so that the order of reading does not matter.
    pub files: BTreeMap<Vec<u8>, Found>,
    /// `_headers` and `_redirects`, without invalid lines.
    pub rules: Rules,
    /// Links that leave the folder, dangle or loop, and names that are neither a file nor a folder.
    pub left_out: Vec<Vec<u8>>,
    unreadable: Vec<String>,
}

/// Reads a folder. A file that cannot be read is an error, because a pack must be complete.
pub fn gather(folder: &Path) -> anyhow::Result<Gathered> {
    let (_, parts) = walk(folder, 1, Gathered::default)
        .with_context(|| format!("cannot open the folder {}", folder.display()))?;
    let mut gathered = parts.into_iter().next().unwrap_or_default();
    if let Some(first) = gathered.unreadable.first() {
        bail!("{first} ({} cannot be read)", gathered.unreadable.len());
    }
    gathered.left_out.sort();
    gathered.take_rules(folder)?;
    Ok(gathered)
}

impl Gathered {
    fn take_rules(&mut self, folder: &Path) -> anyhow::Result<()> {
        let [headers, redirects] =
            RULES.map(|name| self.files.remove(name).map(|found| found.bytes).unwrap_or_default());
        for (name, text) in RULES.into_iter().zip([&headers, &redirects]) {
            check_size(name, text.len() as u64)
                .with_context(|| format!("cannot read the rules of {}", folder.display()))?;
        }
        let (rules, complaints) = Rules::parse(&headers, &redirects);
        let lines = complaints
            .iter()
            .map(|bad| format!("{}:{}: {}", folder.join(bad.file).display(), bad.line, bad.what));
        let lines: Vec<String> = lines.collect();
        match &lines[..] {
            [] => {}
            [one] => bail!("{one}"),
            [first, others @ ..] => {
                for line in others {
                    tracing::error!("{line}");
                }
                bail!("{first} ({} invalid lines)", lines.len());
            }
        }
        self.rules = rules;
        Ok(())
    }
}

impl Visitor for Gathered {
    const OPENS: bool = true;

    fn file(&mut self, path: &[u8], file: Option<File>, stat: &Stat) -> Result<(), Trouble> {
        let mut bytes = Vec::new();
        if let Some(mut file) = file {
            file.read_to_end(&mut bytes)?;
        }
        let modified = u64::try_from(stat.st_mtime).ok();
        self.files.insert(path.to_vec(), Found { bytes, modified });
        Ok(())
    }

    fn trouble(&mut self, path: &[u8], trouble: Trouble) {
        match trouble {
            Trouble::Nowhere => self.left_out.push(path.to_vec()),
            Trouble::Unreadable(error) => {
                self.unreadable.push(format!("{}: {error}", String::from_utf8_lossy(path)));
            }
        }
    }
}
