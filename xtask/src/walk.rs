//! The files below a folder, and one digest of all of them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::digest::{Digest, Recipe};

/// The hidden name that is content (RFC 8615).
const WELL_KNOWN: &str = ".well-known";

/// Folders at the top of a package that do not go into its programs.
pub const NOT_BUILT: [&str; 5] = ["fuzz", "target", "tests", "benches", "testdata"];

/// A file below a folder.
#[derive(Debug)]
pub struct Found {
    /// Its path, relative to the folder.
    pub path: PathBuf,
    /// File or link.
    pub kind: Kind,
}

/// The kind of a found file.
#[derive(Debug)]
pub enum Kind {
    /// A regular file.
    File {
        /// True if its owner may execute it.
        executable: bool,
    },
    /// A symbolic link.
    Link(PathBuf),
}

/// Lists all files and links below a folder, sorted, without hidden ones except `.well-known`.
pub fn files(dir: &Path) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    walk(dir, Path::new(""), &[], &mut found)?;
    Ok(found)
}

/// Digests names, x bits, links and bytes of the same files, without the folders `skip` at the top.
pub fn digest(dir: &Path, skip: &[&str]) -> Result<Digest> {
    let mut files = Vec::new();
    walk(dir, Path::new(""), skip, &mut files)?;
    let mut recipe = Recipe::new("folder");
    for file in files {
        let path = dir.join(&file.path);
        let name = file.path.to_string_lossy();
        recipe = match file.kind {
            Kind::Link(target) => recipe.field(&name, format!("link to {}", target.display())),
            Kind::File { executable } => recipe
                .field(&name, if executable { "x" } else { "-" })
                .digest("bytes", Digest::of_file(&path)?),
        };
    }
    Ok(recipe.finish())
}

fn walk(dir: &Path, below: &Path, skip: &[&str], found: &mut Vec<Found>) -> Result<()> {
    let here = dir.join(below);
    let context = || format!("cannot read the folder {}", here.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(&here).with_context(context)? {
        names.push(entry.with_context(context)?.file_name());
    }
    names.sort();
    for name in names {
        let text = name.to_string_lossy();
        if (text.starts_with('.') && text != WELL_KNOWN)
            || (below == Path::new("") && skip.contains(&&*text))
        {
            continue;
        }
        let path = below.join(&name);
        let full = dir.join(&path);
        let meta =
            full.symlink_metadata().with_context(|| format!("cannot read {}", full.display()))?;
        if meta.is_dir() {
            walk(dir, &path, skip, found)?;
        } else if meta.is_symlink() {
            found.push(Found { path, kind: Kind::Link(fs::read_link(&full)?) });
        } else {
            let executable = meta.permissions().mode() & 0o100 != 0;
            found.push(Found { path, kind: Kind::File { executable } });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_files_and_skipped_folders_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        };
        put("src/tests/a");
        let before = digest(dir.path(), &["tests"]).unwrap();
        put(".git/x");
        put("tests/x");
        assert_eq!(digest(dir.path(), &["tests"]).unwrap(), before);
        put(".well-known/x");
        assert_ne!(digest(dir.path(), &["tests"]).unwrap(), before);
    }
}
