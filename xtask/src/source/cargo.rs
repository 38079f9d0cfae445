//! cargo as the builder calls it, without the user's settings that change bytes.
//!
//! cargo reads `.cargo/config.toml` in the current folder, in each folder above it and in its home.
//! A `[profile.release]` in one of them would change every program without changing a digest. So
//! cargo runs in `/` with a home in the builder's cache, and gets one file with the user's tables on
//! the source of crates. Those cannot change bytes, because Cargo.lock has every crate's checksum.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use toml::{Table, Value};

use crate::arch::Arch;
use crate::process::Command;

/// Tables of cargo's configuration that reach the builder's cargo.
const TABLES: [&str; 5] = ["source", "registries", "registry", "net", "http"];

/// Keys of these tables whose value is a path.
const PATHS: [&str; 3] = ["cainfo", "directory", "local-registry"];

/// The prefixes that stand for the folder of crates and for the workspace in every program.
const CRATES_PREFIX: &str = "/cargo";
const WORKSPACE_PREFIX: &str = "/kiln";

/// The builder's cargo for one workspace.
#[derive(Debug)]
pub struct Cargo<'a> {
    workspace: &'a Path,
    home: &'a Path,
    settings: Table,
}

impl<'a> Cargo<'a> {
    /// Prepares cargo's home, a folder of the cache, and the file of settings.
    pub fn new(workspace: &'a Path, home: &'a Path) -> Result<Self> {
        let cargo = Self { workspace, home, settings: fetching(workspace)? };
        check_root(Path::new("/"))?;
        write_if_new(&cargo.file(), &cargo.settings.to_string())?;
        link_credentials(home)?;
        Ok(cargo)
    }

    /// Makes a command of cargo run in `/`, with the builder's home.
    pub fn run(&self, command: impl Into<Command>) -> Command {
        command.into().dir(Path::new("/")).env("CARGO_HOME", self.home)
    }

    /// The folder of cargo's results.
    pub fn target(&self) -> PathBuf {
        target(self.workspace)
    }

    /// The file for cargo's option `--manifest-path`.
    pub fn manifest(&self) -> PathBuf {
        self.workspace.join("Cargo.toml")
    }

    /// The file for cargo's option `--config`.
    pub fn file(&self) -> PathBuf {
        self.target().join("config.toml")
    }

    /// Arguments of rustc without which a program would show where it was built.
    ///
    /// The last prefix that matches a path wins, so the longest one comes last: cargo's home can lie
    /// in the workspace, and the workspace in cargo's home.
    pub fn remap(&self) -> Result<Vec<String>> {
        let mut prefixes = vec![(self.workspace.to_owned(), WORKSPACE_PREFIX.to_owned())];
        for registry in folders(&self.home.join("registry/src"))? {
            prefixes.push((registry, CRATES_PREFIX.to_owned()));
        }
        for directory in directories(&self.settings) {
            for package in folders(&directory)? {
                let prefix = format!("{CRATES_PREFIX}/{}", versioned_name(&package)?);
                prefixes.push((package, prefix));
            }
        }
        prefixes.sort_by_key(|(path, _)| path.as_os_str().len());
        let flag = |(path, prefix): (PathBuf, String)| {
            format!("--remap-path-prefix={}={prefix}", path.display())
        };
        Ok(prefixes.into_iter().map(flag).collect())
    }
}

/// The user's settings on fetching crates in a workspace.
pub fn fetching(workspace: &Path) -> Result<Table> {
    settings(workspace, user_home().as_deref())
}

/// The user's settings on the source of crates, as text: another source is another download.
pub fn sources(workspace: &Path) -> Result<String> {
    let mut settings = fetching(workspace)?;
    settings.retain(|name, _| name == "source");
    Ok(settings.to_string())
}

fn target(workspace: &Path) -> PathBuf {
    workspace.join("target/kiln/crates")
}

/// The user's folder of cargo, if there is one.
pub fn user_home() -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").filter(|home| !home.is_empty());
    let home = home.map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cargo")))?;
    std::path::absolute(home).ok()
}

/// Merges the configuration files that cargo would read in the workspace, the nearest one first.
fn settings(workspace: &Path, user: Option<&Path>) -> Result<Table> {
    let above = workspace.ancestors().map(|dir| dir.join(".cargo"));
    let mut merged = Table::new();
    for folder in above.chain(user.map(Path::to_owned)) {
        if let Some(file) = read(&folder)? {
            merge(&mut merged, allowed(file, folder.parent().unwrap_or(&folder)));
        }
    }
    Ok(merged)
}

/// Refuses a configuration of the root folder, which cargo reads although it runs there.
fn check_root(root: &Path) -> Result<()> {
    let folder = root.join(".cargo");
    let file = read(&folder)?.unwrap_or_default();
    let key = file.keys().find(|name| !TABLES.contains(&name.as_str()));
    ensure!(
        key.is_none(),
        "{}: `{}`: it would change the programs of the image, and cargo has no option to ignore \
         it; remove the key",
        folder.join("config.toml").display(),
        key.map_or("", String::as_str)
    );
    Ok(())
}

/// Reads a folder's configuration; the name without an ending wins, as in cargo.
fn read(folder: &Path) -> Result<Option<Table>> {
    for name in ["config", "config.toml"] {
        let path = folder.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => {
                let table =
                    text.parse().with_context(|| format!("cannot parse {}", path.display()));
                return table.map(Some);
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        }
    }
    Ok(None)
}

/// Keeps [`TABLES`], without secrets, and makes relative paths absolute.
fn allowed(mut file: Table, base: &Path) -> Table {
    file.retain(|name, _| TABLES.contains(&name));
    for (_, value) in &mut file {
        absolute(value, base);
    }
    file
}

fn absolute(value: &mut Value, base: &Path) {
    let Value::Table(table) = value else { return };
    for (name, value) in table {
        match value {
            Value::String(path) if PATHS.contains(&name.as_str()) => {
                *path = base.join(&*path).display().to_string();
            }
            value => absolute(value, base),
        }
    }
}

/// Adds what is missing in `nearer`.
fn merge(nearer: &mut Table, farther: Table) {
    for (name, value) in farther {
        match (nearer.get_mut(&name), value) {
            (None, value) => drop(nearer.insert(name, value)),
            (Some(Value::Table(nearer)), Value::Table(farther)) => merge(nearer, farther),
            (Some(_), _) => {}
        }
    }
}

/// Folders that replace a registry (`cargo vendor`).
fn directories(settings: &Table) -> Vec<PathBuf> {
    let sources = settings.get("source").and_then(Value::as_table).into_iter().flatten();
    let directory = |(_, source): (_, &Value)| Some(source.get("directory")?.as_str()?.into());
    sources.filter_map(directory).collect()
}

/// The name that a crate's folder has in a registry.
fn versioned_name(package: &Path) -> Result<String> {
    let path = package.join("Cargo.toml");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let table: Table = text.parse().with_context(|| format!("cannot parse {}", path.display()))?;
    let field = |name| table.get("package")?.get(name)?.as_str();
    let name = field("name").zip(field("version"));
    let (name, version) =
        name.with_context(|| format!("{}: `package`: no name or version", path.display()))?;
    Ok(format!("{name}-{version}"))
}

/// The folders directly in a folder, sorted; empty if the folder is missing.
fn folders(dir: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("cannot read the folder {}", dir.display());
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(context)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(context)?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Lets cargo find the user's credentials for registries.
fn link_credentials(home: &Path) -> Result<()> {
    let Some(user) = user_home() else { return Ok(()) };
    for name in ["credentials.toml", "credentials"] {
        let (file, link) = (user.join(name), home.join(name));
        if !file.exists() || link.exists() {
            continue;
        }
        // An existing path can only be a link to a file that is gone.
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(&file, &link)
            .with_context(|| format!("cannot link {} to {}", link.display(), file.display()))?;
    }
    Ok(())
}

/// Writes a file unless it has this text already: several builds can share it.
fn write_if_new(path: &Path, text: &str) -> Result<()> {
    let context = || format!("cannot write {}", path.display());
    if fs::read_to_string(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let folder = path.parent().context("a file has a folder")?;
    fs::create_dir_all(folder).with_context(context)?;
    let new = tempfile::NamedTempFile::new_in(folder).with_context(context)?;
    fs::write(&new, text).with_context(context)?;
    new.persist(path).map(drop).map_err(|error| error.error).with_context(context)
}

/// The linker that the user chose for an architecture, with the variable that names it.
///
/// The version of the linker is part of each program's digest.
pub fn linker(arch: Arch) -> Option<(String, OsString)> {
    let name = format!("CARGO_TARGET_{}_LINKER", arch.triple().to_uppercase().replace('-', "_"));
    let linker = std::env::var_os(&name)?;
    Some((name, linker))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a file below a folder, with the folders on the way to it.
    fn put(dir: &Path, path: &str, text: &str) {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_profile_of_a_parent_folder_does_not_reach_the_builders_cargo() {
        let dir = tempfile::tempdir().unwrap();
        put(
            dir.path(),
            ".cargo/config.toml",
            "[profile.release]\nopt-level = 0\n[env]\nCC = \"x\"",
        );
        let settings = settings(&dir.path().join("a/kiln"), None).unwrap();
        assert!(!settings.contains_key("profile") && !settings.contains_key("env"));
    }

    #[test]
    fn a_profile_in_the_root_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), ".cargo/config.toml", "[net]\nretry = 1\n");
        assert!(check_root(dir.path()).is_ok());
        put(dir.path(), ".cargo/config.toml", "[profile.release]\nlto = false\n");
        let error = check_root(dir.path()).unwrap_err().to_string();
        assert!(error.contains("`profile`"), "{error}");
    }

    #[test]
    fn a_mirror_of_crates_reaches_the_builders_cargo_and_the_nearest_file_wins() {
        let dir = tempfile::tempdir().unwrap();
        let replace = |by: &str| format!("[source.crates-io]\nreplace-with = \"{by}\"\n");
        put(dir.path(), ".cargo/config.toml", &(replace("far") + "[net]\nretry = 9\n"));
        put(dir.path(), "kiln/.cargo/config.toml", &replace("near"));
        let settings = settings(&dir.path().join("kiln"), None).unwrap();
        assert_eq!(settings["source"]["crates-io"]["replace-with"].as_str(), Some("near"));
        assert_eq!(settings["net"]["retry"].as_integer(), Some(9));
    }

    #[test]
    fn relative_paths_stay_those_of_the_file_that_has_them() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), ".cargo/config.toml", "[source.v]\ndirectory = \"vendor\"\n");
        let settings = settings(&dir.path().join("kiln"), None).unwrap();
        assert_eq!(directories(&settings), [dir.path().join("vendor")]);
    }

    #[test]
    fn crates_of_any_source_have_one_path_in_programs() {
        let dir = tempfile::tempdir().unwrap();
        let (workspace, home) = (dir.path().join("kiln"), dir.path().join("kiln/cargo-home"));
        put(&workspace, ".cargo/config.toml", "[source.v]\ndirectory = \"vendor\"\n");
        put(&workspace, "vendor/x/Cargo.toml", "[package]\nname = \"x\"\nversion = \"1.2.3\"\n");
        put(&home, "registry/src/mirror-0/y-1.0.0/Cargo.toml", "");
        let settings = settings(&workspace, None).unwrap();
        let flags = Cargo { workspace: &workspace, home: &home, settings }.remap().unwrap();
        let flag = |path: &str, prefix: &str| {
            format!("--remap-path-prefix={}{path}={prefix}", workspace.display())
        };
        let expected = [
            flag("", "/kiln"),
            flag("/vendor/x", "/cargo/x-1.2.3"),
            flag("/cargo-home/registry/src/mirror-0", "/cargo"),
        ];
        assert_eq!(flags, expected, "the longest path comes last, so that it wins");
    }
}
