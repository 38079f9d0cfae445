//! Links a crate with musl in place of glibc, which makes a program half as large.
//!
//! The target stays Rust's `gnu` one, since a toolchain has its standard library. Only the last
//! link differs: start files and `libc.a` are those of Debian's musl-dev, and one object of ours
//! stands in for what musl does not have. docs/decisions/0010 says why that is sound, and for what.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::config::Arch;
use crate::digest::{Digest, Recipe};
use crate::process::Command;

/// What stands in for names that only glibc and libgcc have.
const STAND_INS: &str = include_str!("musl.c");

/// Tables for unwinding, in a program that never unwinds.
///
/// A section that a script with `INSERT` names is taken before the linker's own script sees it.
const DISCARDED: &str = "SECTIONS { /DISCARD/ : { *(.eh_frame .eh_frame.* .gcc_except_table \
                         .gcc_except_table.*) } } INSERT BEFORE .text;\n";

/// How the stand-ins are compiled.
const COMPILE: [&str; 7] = [
    "-O2",
    "-fPIC",
    "-ffreestanding",
    "-ffunction-sections",
    // Or the compiler would see that memmove copies, and have it call itself.
    "-fno-tree-loop-distribute-patterns",
    "-fno-asynchronous-unwind-tables",
    "-fno-stack-protector",
];

/// Everything of ours that goes into the link; "musl 1" is raised when [`arguments`] names others.
pub fn digest() -> Digest {
    Recipe::new("musl 1")
        .field("stand-ins", STAND_INS)
        .field("compile", COMPILE.join(" "))
        .field("discarded", DISCARDED)
        .finish()
}

/// Arguments of `rustc` for the last link; files for it are made in a folder of `work`.
///
/// `sysroot` is the unpacked package musl-dev. Cargo looks at the arguments and not at the files
/// that they name, so these are in a folder with their digest's name: other files make it link
/// again.
pub fn arguments(sysroot: &Path, arch: Arch, work: &Path) -> Result<Vec<String>> {
    // The linker looks here first, so nothing of another time may be left.
    if work.exists() {
        fs::remove_dir_all(work).with_context(|| format!("cannot clear {}", work.display()))?;
    }
    let work = &work.join(digest().to_string());
    fs::create_dir_all(work).with_context(|| format!("cannot make {}", work.display()))?;
    let write = |name: &str, text: &str| {
        let path = work.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        anyhow::Ok(path)
    };
    let source = write("stand-ins.c", STAND_INS)?;
    let object = work.join("stand-ins.o");
    Command::new(compiler(arch))
        .args(COMPILE)
        .args(["-c", "-o"])
        .arg(&object)
        .arg(source)
        .output()?;
    let files = sysroot.join("usr/lib").join(format!("{arch}-linux-musl"));
    // Start files come before all libraries, so what the object has is not looked for there. A text
    // in place of an object is a script of the linker.
    let start = format!("INPUT(\"{}\" \"{}\")\n", files.join("crti.o").display(), object.display());
    write("crti.o", &start)?;
    let script = write("discard.ld", DISCARDED)?;
    Ok([
        // Folders where the compiler looks for start files and libraries first.
        format!("-B{}", work.display()),
        format!("-B{}", files.display()),
        "-Wl,--no-eh-frame-hdr".to_owned(),
        format!("-Wl,-T,{}", script.display()),
        "-Wl,-z,pack-relative-relocs".to_owned(),
    ]
    .map(|argument| format!("-Clink-arg={argument}"))
    .into())
}

/// The C compiler that links for this architecture: cargo's variable, else `cc`.
fn compiler(arch: Arch) -> std::ffi::OsString {
    let triple = arch.triple().to_uppercase().replace('-', "_");
    std::env::var_os(format!("CARGO_TARGET_{triple}_LINKER")).unwrap_or_else(|| "cc".into())
}

#[cfg(test)]
mod tests {
    use super::{arguments, digest};
    use crate::config::Arch;

    #[test]
    fn files_of_another_content_make_other_arguments() {
        let work = tempfile::tempdir().unwrap();
        let work = work.path().join("page");
        let old = work.join("0").join("crti.o");
        std::fs::create_dir_all(old.parent().unwrap()).unwrap();
        std::fs::write(&old, "old").unwrap();
        let arguments = arguments("/musl".as_ref(), Arch::HOST, &work).unwrap();
        let folder = work.join(digest().to_string());
        for (option, path) in [("-B", folder.clone()), ("-Wl,-T,", folder.join("discard.ld"))] {
            let expected = format!("-Clink-arg={option}{}", path.display());
            assert!(arguments.contains(&expected), "{expected} is not in {arguments:?}");
        }
        assert!(folder.join("stand-ins.o").exists() && !old.exists());
    }
}
