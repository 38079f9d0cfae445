//! Executes the program that makes packs.
//!
//! Compressors are several times as large as this server, and a pod does not need them. They are
//! therefore in a second program of this package, `static-server-pack`, which `cargo build` puts
//! next to the first. `static-server pack` executes that program.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt as _;

use anyhow::Context as _;
use nix::unistd::execv;

/// The name of the second program.
pub const PROGRAM: &str = "static-server-pack";

/// Replaces this process; returns only if that fails.
///
/// Uses execv(2) directly, because `std::process::Command` would add its code for child processes
/// to a program that starts no children.
pub fn replace_by_packer(args: &[OsString]) -> anyhow::Result<()> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let packer = own.with_file_name(PROGRAM);
    let all = [packer.clone().into_os_string()].into_iter().chain(args.iter().cloned());
    let all: Result<Vec<CString>, _> = all.map(|arg| CString::new(arg.into_vec())).collect();
    let all = all.context("an argument contains a NUL")?;
    let Err(error) = execv(&all[0], &all);
    Err(error).with_context(|| {
        format!(
            "cannot start {}; cargo build puts it next to this program, but images do not contain it",
            packer.display()
        )
    })
}
