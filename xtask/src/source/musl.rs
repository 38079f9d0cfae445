//! Links a crate with musl in place of glibc, which makes a program half as large.
//!
//! The target stays Rust's `gnu` one, because a toolchain has its standard library. Only the last
//! link differs: start files and `libc.a` are those of Debian's musl-dev, and an object of our own
//! defines the symbols that musl lacks. docs/decisions/0010 explains why that is sound, and for
//! which programs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use xshell::cmd;

use crate::arch::Arch;
use crate::digest::{Digest, Recipe};
use crate::process::{Command, shell};
use crate::revision;
use crate::source::cargo::linker;

/// Replacements for symbols that only glibc and libgcc have.
const STAND_INS: &str = include_str!("musl.c");

/// Tables for unwinding, in a program that never unwinds.
///
/// The linker reads a script with `INSERT` before its own script.
const DISCARDED: &str = "SECTIONS { /DISCARD/ : { *(.eh_frame .eh_frame.* .gcc_except_table \
                         .gcc_except_table.*) } } INSERT BEFORE .text;\n";

/// Options with which the replacements are compiled.
const COMPILE: [&str; 7] = [
    "-O2",
    "-fPIC",
    "-ffreestanding",
    "-ffunction-sections",
    // Without it the compiler turns the loop in memmove into a call of memmove.
    "-fno-tree-loop-distribute-patterns",
    "-fno-asynchronous-unwind-tables",
    "-fno-stack-protector",
];

/// The digest of all that this file adds to the link. Raise [`revision::MUSL`] if [`arguments`]
/// returns other arguments.
pub fn digest() -> Digest {
    Recipe::new(revision::MUSL)
        .field("stand-ins", STAND_INS)
        .field("compile", COMPILE.join(" "))
        .field("discarded", DISCARDED)
        .finish()
}

/// Returns the arguments of `rustc` for the last link, and writes the files that they name.
///
/// `sysroot` is the unpacked package musl-dev. Cargo compares arguments and not the files that they
/// name, so the files are written to a folder of `work` that their digest names: other files make
/// cargo link again.
pub fn arguments(sysroot: &Path, arch: Arch, work: &Path) -> Result<Vec<String>> {
    // The linker looks here first, so no file of an earlier build may be left.
    if work.exists() {
        fs::remove_dir_all(work).with_context(|| format!("cannot clear {}", work.display()))?;
    }
    let work = &work.join(digest().to_string());
    fs::create_dir_all(work).with_context(|| format!("cannot create {}", work.display()))?;
    let files = sysroot.join("usr/lib").join(format!("{arch}-linux-musl"));
    for path in [work, &files] {
        ensure!(
            !path.as_os_str().as_encoded_bytes().contains(&b'"'),
            "cannot link from {}: the linker's scripts take no `\"` in a path; move the checkout or \
             set KILN_CACHE to another folder",
            path.display()
        );
    }
    let write = |name: &str, text: &str| {
        let path = work.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        anyhow::Ok(path)
    };
    let source = write("stand-ins.c", STAND_INS)?;
    let object = work.join("stand-ins.o");
    let (sh, compiler) = (shell()?, linker(arch).map_or_else(|| "cc".into(), |(_, linker)| linker));
    Command::from(cmd!(sh, "{compiler} {COMPILE...} -c -o {object} {source}")).output()?;
    // Start files come before all libraries, so the names of the object are not looked up there. The
    // linker reads a text file in place of an object as a script.
    let start = format!("INPUT(\"{}\" \"{}\")\n", files.join("crti.o").display(), object.display());
    write("crti.o", &start)?;
    let script = write("discard.ld", DISCARDED)?;
    Ok([
        // Folders in which the compiler looks for start files and libraries first.
        format!("-B{}", work.display()),
        format!("-B{}", files.display()),
        "-Wl,--no-eh-frame-hdr".to_owned(),
        "-Wl,-z,pack-relative-relocs".to_owned(),
        // `-Wl,` would split the path at its commas.
        "-Xlinker".to_owned(),
        "-T".to_owned(),
        "-Xlinker".to_owned(),
        script.display().to_string(),
    ]
    .map(|argument| format!("-Clink-arg={argument}"))
    .into())
}

#[cfg(test)]
mod tests {
    use super::{arguments, digest};
    use crate::arch::Arch;

    #[test]
    fn a_comma_in_a_path_does_not_split_an_argument() {
        let work = tempfile::tempdir().unwrap();
        let arguments = arguments("/musl".as_ref(), Arch::HOST, &work.path().join("a,b")).unwrap();
        let split = |argument: &&String| argument.contains("-Wl,") && argument.contains("a,b");
        assert_eq!(arguments.iter().find(split), None);
    }

    #[test]
    fn a_path_that_would_end_a_linker_script_is_refused() {
        let work = tempfile::tempdir().unwrap();
        let error = arguments("/mu\"sl".as_ref(), Arch::HOST, &work.path().join("page"));
        assert!(error.unwrap_err().to_string().contains("take no `\"`"));
    }

    #[test]
    fn changed_files_change_the_arguments() {
        let work = tempfile::tempdir().unwrap();
        let work = work.path().join("page");
        let old = work.join("0").join("crti.o");
        std::fs::create_dir_all(old.parent().unwrap()).unwrap();
        std::fs::write(&old, "old").unwrap();
        let arguments = arguments("/musl".as_ref(), Arch::HOST, &work).unwrap();
        let folder = work.join(digest().to_string());
        for (option, path) in [("-B", folder.clone()), ("", folder.join("discard.ld"))] {
            let expected = format!("-Clink-arg={option}{}", path.display());
            assert!(arguments.contains(&expected), "{expected} is not in {arguments:?}");
        }
        assert!(folder.join("stand-ins.o").exists() && !old.exists());
    }
}
