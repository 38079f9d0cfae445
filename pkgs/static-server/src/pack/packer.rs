//! Hands over to the program that makes packs.
//!
//! Compressors are several times as large as this server, and a pod needs none of them. So they are
//! in a second program of this package, `static-server-pack`, which lies beside the first after
//! `cargo build`, and `static-server pack` becomes that program.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt as _;

use anyhow::Context as _;
use nix::unistd::execv;

/// The second program's name.
pub const PROGRAM: &str = "static-server-pack";

/// Replaces this process; returns only if that fails.
///
/// With execv(2) itself: `std::process::Command` would bring all that starts children into a
/// program that starts none.
pub fn replace_by_packer(args: &[OsString]) -> anyhow::Result<()> {
    let own = std::env::current_exe().context("finding this program's own file")?;
    let packer = own.with_file_name(PROGRAM);
    let all = [packer.clone().into_os_string()].into_iter().chain(args.iter().cloned());
    let all: Result<Vec<CString>, _> = all.map(|arg| CString::new(arg.into_vec())).collect();
    let all = all.context("an argument with a NUL")?;
    let Err(error) = execv(&all[0], &all);
    Err(error).with_context(|| {
        format!(
            "starting {}; it is built with this program and lies beside it, images do not have it",
            packer.display()
        )
    })
}
