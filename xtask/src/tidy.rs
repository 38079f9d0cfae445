//! Repository rules as tests, so that reviewers need not remember them.
//!
//! Each rule is one `#[test]` whose name states the property. The rules read the files on the disk and
//! start no process, so they walk the tree instead of asking git. `docs/style.md` has the rules in
//! words, and `docs/testing.md` explains how to run them.

mod cluster;
mod code;
mod docs;
mod faults;
mod imports;
mod leaks;
mod modules;
mod prose;
mod shipped;
mod var;
mod workloads;
mod workspace;

use std::fs;
use std::path::{Path, PathBuf};

/// Names that git ignores, and git's own folder, which is a file in a second worktree.
const NOT_OURS: [&str; 5] = [".git", "target", "corpus", "artifacts", "node_modules"];

/// Returns the repository's root.
fn root() -> PathBuf {
    crate::build::workspace().unwrap()
}

/// Returns every file of the repository, relative to its root and sorted.
fn files() -> Vec<PathBuf> {
    let root = root();
    let mut found = Vec::new();
    let mut todo = vec![root.clone()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if NOT_OURS.contains(&&*entry.file_name().to_string_lossy()) {
                continue;
            }
            if kind.is_dir() {
                todo.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path().strip_prefix(&root).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Returns the files whose names end with `suffix`.
fn files_with(suffix: &str) -> Vec<PathBuf> {
    files().into_iter().filter(|path| path.to_string_lossy().ends_with(suffix)).collect()
}

/// Returns a file's text, by its path relative to the root.
fn text(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns a TOML file's table, by its path relative to the root.
fn table(path: impl AsRef<Path>) -> toml::Table {
    let path = path.as_ref();
    toml::from_str(&text(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Fails with one line for each offence, if there are any.
#[track_caller]
fn none<T: std::fmt::Display>(rule: &str, offences: impl IntoIterator<Item = T>) {
    let lines: Vec<String> = offences.into_iter().map(|offence| format!("  {offence}")).collect();
    assert!(lines.is_empty(), "{rule}:\n{}", lines.join("\n"));
}

/// Returns `FILE:LINE: what`, a form that editors can jump to; `index` counts from 0.
fn at(path: &Path, index: usize, what: &str) -> String {
    format!("{}:{}: {what}", path.display(), index + 1)
}
