//! Makes, verifies and lists packs; `static-server pack` executes this program.
//!
//! It is separate from the server because the compressors are larger than the server.
//! [`static_server::pack`] defines the format; this program turns a folder into a pack.

mod gather;
mod list;
mod make;
mod options;

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use kiln_daemon::exit::Exit;
use options::Command;
use static_server::pack::open;

use anyhow::Context as _;

fn main() -> ExitCode {
    kiln_daemon::main("static-server-pack", env!("CARGO_PKG_VERSION"), |args| {
        match options::parse(args).context(Exit::Usage)? {
            Command::Help => print!("{}", options::HELP),
            Command::Pack(options) => make::make(&options)?,
            Command::Verify(file) => {
                let count = open::verify(&file)?;
                println!("{}: {count} bodies are intact", file.display());
            }
            Command::List(file) => show(&list::list(&file)?)?,
        }
        Ok(())
    })
}

/// Prints a long text. The reader may stop early, as `head` does.
fn show(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot print"),
        _ => Ok(()),
    }
}
