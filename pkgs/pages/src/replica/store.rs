//! A replica's files: `table.json`, and `packs/HEX.pack` for each revision.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use kiln_base::replace::{self, Durability};
use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::replica::plan::Transfer;
use crate::table::Table;

/// The extension of a pack.
const EXTENSION: &str = "pack";

/// The mode of the files: the table names all tenants' sites.
const MODE: u32 = 0o640;

/// The bytes of one read of a transfer.
const PIECE: usize = 64 << 10;

/// The folder of a replica.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// Opens the folder, and creates what is missing.
    pub fn open(folder: &Path) -> Result<Self> {
        let packs = folder.join("packs");
        fs::create_dir_all(&packs)
            .with_context(|| format!("cannot create the folder {}", packs.display()))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Returns the place of a revision's pack.
    #[must_use]
    pub fn pack(&self, revision: &Digest) -> PathBuf {
        self.folder.join("packs").join(revision.hex()).with_extension(EXTENSION)
    }

    /// True if a revision's pack is here. Only whole and verified packs have their name.
    #[must_use]
    pub fn has(&self, revision: &Digest) -> bool {
        self.pack(revision).is_file()
    }

    /// Stores a revision that `source` sends. A pack with another size or digest is refused, and
    /// leaves nothing behind.
    pub fn add(&self, transfer: &Transfer, source: &mut impl Read) -> Result<()> {
        let path = self.pack(&transfer.revision);
        let storing = || format!("cannot store the revision {}", transfer.revision);
        replace::write_with(&path, MODE, Durability::File, |file| fill(file, transfer, source))
            .with_context(storing)
    }

    /// Returns the table of the last run without the sites whose packs are missing; an empty one if
    /// there was none.
    ///
    /// A damaged table is an empty one too, because the syncer sends it again.
    #[must_use]
    pub fn table(&self) -> Table {
        let mut table = match fs::read(self.folder.join("table.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!("ignored the table of the last run: {error}");
                Table::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Table::default(),
            Err(error) => {
                tracing::warn!("cannot read the table of the last run: {error}");
                Table::default()
            }
        };
        table.sites.retain(|_, entry| self.has(&entry.revision));
        table
    }

    /// Replaces the table for the next run.
    pub fn save(&self, table: &Table) -> Result<()> {
        let bytes = serde_json::to_vec(table)?;
        let path = self.folder.join("table.json");
        replace::write(&path, &bytes, MODE, Durability::File)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Removes all packs but the kept ones, and what killed writers left of others. Returns the
    /// number of removed files.
    ///
    /// An open pack stays readable until it is closed (unlink(2)), and a kept pack that is being
    /// written stays too.
    pub fn sweep(&self, kept: &BTreeSet<Digest>) -> Result<usize> {
        let folder = self.folder.join("packs");
        let name = |revision: &Digest| format!("{}.{EXTENSION}", revision.hex());
        let names: BTreeSet<_> = kept.iter().map(name).collect();
        let reading = || format!("cannot read the folder {}", folder.display());
        let mut removed = 0;
        for entry in fs::read_dir(&folder).with_context(reading)? {
            let entry = entry.with_context(reading)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // `replace` writes a file under the name `.NAME.new`.
            let temporary = name.strip_prefix('.').and_then(|name| name.strip_suffix(".new"));
            if !names.contains(temporary.unwrap_or(&name)) {
                let path = entry.path();
                fs::remove_file(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// Copies a pack into a file, and compares its size and digest.
pub fn fill(file: &mut File, transfer: &Transfer, source: &mut impl Read) -> Result<()> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; PIECE];
    let mut left = transfer.bytes;
    loop {
        let count = source.read(&mut buffer).context("cannot receive it")?;
        if count == 0 {
            break;
        }
        let Some(rest) = left.checked_sub(count as u64) else {
            bail!("the syncer sent more than the announced {} bytes", transfer.bytes);
        };
        left = rest;
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count])?;
    }
    if left > 0 {
        bail!("{left} of {} bytes are missing", transfer.bytes);
    }
    let found = Digest::from_bytes(hasher.finalize().into());
    if found != transfer.revision {
        bail!("its digest is {found}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Store;
    use crate::digest::Digest;
    use crate::key::SiteKey;
    use crate::replica::plan::Transfer;
    use crate::table::{Address, Entry, Table};
    use std::collections::BTreeSet;
    use std::fs;

    fn transfer(content: &[u8]) -> Transfer {
        Transfer { revision: Digest::of(content), bytes: content.len() as u64 }
    }

    #[test]
    fn only_a_whole_and_equal_pack_gets_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let good = transfer(b"content");
        for (bytes, cause) in [
            (&b"conten"[..], "1 of 7 bytes are missing"),
            (b"contents", "more than the announced 7 bytes"),
            (b"CONTENT", "its digest is sha256:"),
        ] {
            let error = store.add(&good, &mut &bytes[..]).unwrap_err();
            assert!(format!("{error:#}").contains(cause), "{error:#}");
            assert!(!store.has(&good.revision));
            assert_eq!(fs::read_dir(folder.path().join("packs")).unwrap().count(), 0);
        }
        store.add(&good, &mut &b"content"[..]).unwrap();
        assert_eq!(fs::read(store.pack(&good.revision)).unwrap(), b"content");
    }

    #[test]
    fn sweeping_keeps_what_is_named_and_open_packs_stay_readable() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for content in [b"one", b"two"] {
            store.add(&transfer(content), &mut &content[..]).unwrap();
        }
        let packs = folder.path().join("packs");
        let half = |content: &[u8]| format!(".{}.pack.new", Digest::of(content).hex());
        fs::write(packs.join(half(b"three")), "half").unwrap();
        fs::write(packs.join(half(b"one")), "half").unwrap();
        let open = fs::File::open(store.pack(&Digest::of(b"two"))).unwrap();
        assert_eq!(store.sweep(&BTreeSet::from([Digest::of(b"one")])).unwrap(), 2);
        assert!(store.has(&Digest::of(b"one")) && !store.has(&Digest::of(b"two")));
        assert!(packs.join(half(b"one")).exists(), "a transfer that is under way");
        assert_eq!(std::io::read_to_string(open).unwrap(), "two");
    }

    #[test]
    fn the_table_of_the_last_run_has_only_sites_whose_packs_are_here() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        assert_eq!(store.table(), Table::default());
        let mut table = Table::default();
        for (name, content) in [("a", b"one"), ("b", b"two")] {
            let site = SiteKey::new("team", name).unwrap();
            let address = Address { host: name.to_owned(), prefix: String::new() };
            let revision = Digest::of(content);
            table.sites.insert(site.clone(), Entry { site, address, revision, bytes: 3 });
        }
        store.add(&transfer(b"one"), &mut &b"one"[..]).unwrap();
        store.save(&table).unwrap();
        table.sites.pop_last();
        assert_eq!(store.table(), table);
        fs::write(folder.path().join("table.json"), "{").unwrap();
        assert_eq!(store.table(), Table::default());
    }
}
