//! Links a crate with musl in place of glibc, which makes a program half as large.
//!
//! The target stays Rust's `gnu` one, since a toolchain has its standard library. Only the last
//! link differs: start files and `libc.a` are those of Debian's musl-dev, and one object of ours
//! stands in for what musl does not have. docs/decisions/0010 says why that is sound, and for what.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::config::Arch;
use crate::process::Command;

/// What stands in for names that only glibc and libgcc have.
const STAND_INS: &str = include_str!("musl.c");

/// Tables for unwinding, in a program that never unwinds.
///
/// A section that a script with `INSERT` names is taken before the linker's own script sees it.
const DISCARDED: &str = "SECTIONS { /DISCARD/ : { *(.eh_frame .eh_frame.* .gcc_except_table \
                         .gcc_except_table.*) } } INSERT BEFORE .text;\n";

/// Arguments of `rustc` for the last link; files for it are made in `work`.
///
/// `sysroot` is the unpacked package musl-dev.
pub fn arguments(sysroot: &Path, arch: Arch, work: &Path) -> Result<Vec<String>> {
    // The linker looks here first, so nothing of another time may be left.
    if work.exists() {
        fs::remove_dir_all(work).with_context(|| format!("cannot clear {}", work.display()))?;
    }
    fs::create_dir_all(work).with_context(|| format!("cannot make {}", work.display()))?;
    let write = |name: &str, text: &str| {
        let path = work.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        anyhow::Ok(path)
    };
    let source = write("stand-ins.c", STAND_INS)?;
    let object = work.join("stand-ins.o");
    Command::new(compiler(arch))
        .args(["-O2", "-fPIC", "-ffreestanding", "-ffunction-sections"])
        // Or the compiler would see that memmove copies, and have it call itself.
        .arg("-fno-tree-loop-distribute-patterns")
        .args(["-fno-asynchronous-unwind-tables", "-fno-stack-protector", "-c", "-o"])
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
