//! Hands over to the program that makes packs.
//!
//! Compressors are several times as large as this server, and a pod needs none of them. So they are
//! in a second program of this package, `static-server-pack`, which lies beside the first after
//! `cargo build`, and `static-server pack` becomes that program.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;

use anyhow::Context as _;

/// The second program's name.
pub const PROGRAM: &str = "static-server-pack";

/// Replaces this process; returns only if that fails.
pub fn replace_by_packer(args: &[OsString]) -> anyhow::Result<()> {
    let own = std::env::current_exe().context("finding this program's own file")?;
    let packer = own.with_file_name(PROGRAM);
    #[expect(
        clippy::disallowed_methods,
        reason = "nothing is started beside this process: it becomes the other"
    )]
    let error = std::process::Command::new(&packer).args(args).exec();
    Err(error).with_context(|| {
        format!(
            "starting {}; it is built with this program and lies beside it, images do not have it",
            packer.display()
        )
    })
}
