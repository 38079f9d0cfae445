//! Programs of unpacked Debian packages, run from the folder that they were unpacked in.
//!
//! A host tool comes with its whole closure, libc included. It runs through the closure's own
//! dynamic loader (ld.so(8)) and never uses the host's libraries, so every host runs the same
//! bytes.
//!
//! Such a program has the loader as its `/proc/self/exe`, and programs that it starts do not go
//! through the loader. A tool that starts helpers by their paths is given scripts instead
//! ([`HostTool::script`]).

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::process::Command;

/// The library folder of this machine's architecture in Debian, and its dynamic loader.
#[cfg(target_arch = "x86_64")]
const LIBRARIES: (&str, &str) = ("usr/lib/x86_64-linux-gnu", "ld-linux-x86-64.so.2");
#[cfg(target_arch = "aarch64")]
const LIBRARIES: (&str, &str) = ("usr/lib/aarch64-linux-gnu", "ld-linux-aarch64.so.1");

/// Folders of private libraries below the library folder, which packages otherwise find by RUNPATH.
const PRIVATE_LIBRARIES: [&str; 3] = ["systemd", "pulseaudio", "../ganesha"];

/// The folder that QEMU looks for next to `/proc/self/exe` (`get_relocated_path` in its
/// `util/cutils.c`).
const QEMU_BUNDLE: &str = "qemu-bundle";

/// The folders of programs.
const FOLDERS: [&str; 4] = ["usr/bin", "usr/sbin", "usr/lib/git-core", "usr/lib/openssh"];

/// A program of an unpacked closure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostTool {
    root: PathBuf,
    program: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Elf,
    Python,
}

impl HostTool {
    /// Returns a compiled program in one of the folders of programs below `root`, such as `usr/bin`.
    #[must_use]
    pub fn new(root: &Path, program: &str) -> Self {
        Self { root: root.to_owned(), program: program.to_owned(), kind: Kind::Elf }
    }

    /// Returns a Python script, `usr/bin/PROGRAM` below `root`, which the closure's own Python
    /// runs.
    #[must_use]
    pub fn python(root: &Path, program: &str) -> Self {
        Self { root: root.to_owned(), program: program.to_owned(), kind: Kind::Python }
    }

    /// Returns the folder of the closure's libraries, for programs that load parts of themselves from
    /// there.
    #[must_use]
    pub fn libraries(&self) -> PathBuf {
        self.root.join(LIBRARIES.0)
    }

    /// Returns a command of the program, ready for its arguments.
    pub fn command(&self) -> Result<Command> {
        let program = self.program()?;
        match self.kind {
            Kind::Elf => Ok(self.loader()?.arg(program)),
            Kind::Python => Ok(self.interpreter()?.arg(program)),
        }
    }

    /// Returns the text of a shell script that runs the compiled program with the script's arguments
    /// and these variables. The library `preload`, if any, is loaded before all others.
    pub fn script(&self, variables: &[(&str, &Path)], preload: Option<&Path>) -> Result<String> {
        let libraries = self.libraries();
        let path = library_path(&libraries)?;
        let mut text = String::from("#!/bin/sh\n");
        for (name, value) in variables {
            writeln!(text, "export {name}={}", quoted(value)?)?;
        }
        write!(text, "exec {}", quoted(&libraries.join(LIBRARIES.1))?)?;
        if let Some(library) = preload {
            write!(text, " --preload {}", quoted(library)?)?;
        }
        let (path, program) = (quoted(Path::new(&path))?, quoted(&self.program()?)?);
        writeln!(text, " --library-path {path} {program} \"$@\"")?;
        Ok(text)
    }

    /// Returns the text of a shell script that runs a program of the closure with a copy of the loader
    /// in a folder, for programs that look for their files next to `/proc/self/exe`.
    pub fn script_beside(&self, folder: &Path, program: &Path) -> Result<String> {
        let libraries = self.libraries();
        let loader = folder.join(LIBRARIES.1);
        fs::copy(libraries.join(LIBRARIES.1), &loader)
            .with_context(|| format!("cannot copy the loader to {}", loader.display()))?;
        let path = library_path(&libraries)?;
        let (loader, path) = (quoted(&loader)?, quoted(Path::new(&path))?);
        let program = quoted(program)?;
        Ok(format!("#!/bin/sh\nexec {loader} --library-path {path} {program} \"$@\"\n"))
    }

    fn program(&self) -> Result<PathBuf> {
        let mut places = FOLDERS.iter().map(|folder| self.root.join(folder).join(&self.program));
        places.find(|place| place.is_file()).with_context(|| {
            format!(
                "{} is missing: the package that has `{}` is not among the host tools",
                self.root.join(FOLDERS[0]).join(&self.program).display(),
                self.program
            )
        })
    }

    fn loader(&self) -> Result<Command> {
        let (_, loader) = LIBRARIES;
        let libraries = self.libraries();
        let path = library_path(&libraries)?;
        Ok(Command::new(libraries.join(loader)).arg("--library-path").arg(path))
    }

    /// `-B` keeps compiled files out of the cache entry, `-s` and `-P` keep the user's modules out.
    fn interpreter(&self) -> Result<Command> {
        let python = self.loader()?.arg(self.root.join("usr/bin/python3")).args(["-B", "-s", "-P"]);
        Ok(python.env("PYTHONHOME", self.root.join("usr")))
    }
}

/// Makes QEMU find modules, firmware and keymaps inside its own closure only.
///
/// QEMU looks for its built-in paths (`/usr/share/qemu`, `/usr/lib/…/qemu`) below a folder
/// `qemu-bundle` next to its executable, which is the dynamic loader here. Without the link QEMU
/// would load modules from the host's own `/usr/lib`, and abort if those belong to another QEMU.
/// The link is made while the closure is staged.
pub fn prepare_qemu(root: &Path) -> Result<()> {
    let (libraries, _) = LIBRARIES;
    let link = root.join(libraries).join(QEMU_BUNDLE);
    let target = Path::new("../../..");
    if fs::read_link(&link).is_ok_and(|old| old == target) {
        return Ok(());
    }
    symlink(target, &link).with_context(|| format!("cannot create the link {}", link.display()))
}

/// Returns the list of library folders. The loader splits it at `:` and `;` and has no escape
/// character.
fn library_path(libraries: &Path) -> Result<OsString> {
    if libraries.as_os_str().as_encoded_bytes().iter().any(|byte| b":;$".contains(byte)) {
        bail!(
            "programs cannot be run from {}: the dynamic loader takes no `:`, `;` or `$` in a path; \
             set KILN_CACHE to another folder",
            libraries.display()
        );
    }
    let mut path = libraries.as_os_str().to_owned();
    for private in PRIVATE_LIBRARIES {
        path.push(":");
        path.push(libraries.join(private));
    }
    Ok(path)
}

/// Quotes a path for a shell.
fn quoted(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(format!("'{}'", text.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_runs_the_program_by_its_own_loader() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("it's/usr/sbin");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("sshd"), "").unwrap();
        let tool = HostTool::new(&root.path().join("it's"), "sshd");
        let script = tool.script(&[("HOME", Path::new("/a b"))], None).unwrap();
        assert!(script.starts_with("#!/bin/sh\nexport HOME='/a b'\nexec '/"), "{script}");
        assert!(script.ends_with("/it'\\''s/usr/sbin/sshd' \"$@\"\n"), "{script}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error =
            HostTool::new(Path::new("/nowhere"), "mkfs.erofs").command().unwrap_err().to_string();
        assert!(error.contains("/nowhere/usr/bin/mkfs.erofs is missing"), "{error}");
    }

    #[test]
    fn a_folder_that_the_loader_would_split_is_refused() {
        assert!(library_path(Path::new("/a b/ü/lib")).is_ok());
        for bad in ["/a:b/lib", "/a;b/lib", "/$LIB/lib"] {
            assert!(library_path(Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn qemus_link_leads_to_the_root_and_can_be_made_twice() {
        let root = tempfile::tempdir().unwrap();
        let libraries = root.path().join(LIBRARIES.0);
        fs::create_dir_all(&libraries).unwrap();
        prepare_qemu(root.path()).unwrap();
        prepare_qemu(root.path()).unwrap();
        let led_to = libraries.join(QEMU_BUNDLE).canonicalize().unwrap();
        assert_eq!(led_to, root.path().canonicalize().unwrap());
    }
}
