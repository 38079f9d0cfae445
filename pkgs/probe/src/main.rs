//! The agent of the VM scenarios inside a node; only test images contain it.
//!
//! `probe` serves pages about the node as plain text over HTTP (`server`), and is an HTTP proxy
//! (CONNECT), so that the builder can connect to any address from the node. `probe flood` writes to its
//! log forever, `probe fetch URL` prints a page, `probe hog` takes all memory, `probe hold` does
//! nothing, and `probe crash` aborts. Under any other name the program is a trap that records its
//! execution (`escape`), or takes the place of a host service (`fault`).

mod block;
mod devices;
mod escape;
mod fault;
mod fetch;
mod files;
mod host;
mod images;
mod linger;
mod memory;
mod nfs;
mod node;
mod own;
mod server;
mod sockets;
mod trap;
mod volume;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};

fn main() -> ExitCode {
    if let Some(name) = trap::sprung() {
        return match fault::role::of(&name) {
            Some(role) => fault::role::play(role),
            None => trap::record(&name),
        };
    }
    kiln_daemon::main(own::NAME, env!("CARGO_PKG_VERSION"), |args| run(&args))
}

fn run(args: &[OsString]) -> Result<()> {
    let words: Vec<&str> = args.iter().filter_map(|word| word.to_str()).collect();
    match words[..] {
        [] => server::serve(),
        ["block-device", device] => block::run(device),
        ["crash"] => std::process::abort(),
        ["escape"] => escape::run(),
        ["fetch", url] => fetch::run(url),
        ["flood"] => flood(),
        ["hog"] => fault::hog(),
        ["hold"] => hold(),
        ["linger", name] => linger::stay(name),
        ["stop-slowly", name, seconds] => linger::stop_slowly(name, seconds.parse()?),
        ["write-file"] => nfs::write_file(),
        ["on-host", ..] => host::run(&words[1..]),
        ["read-direct"] => fault::read_direct(),
        _ => bail!("unknown arguments {args:?}; pkgs/probe/src/main.rs lists them"),
    }
}

/// Writes lines as fast as the reader takes them.
fn flood() -> Result<()> {
    let line = format!("{}\n", "flood ".repeat(20));
    let block = line.repeat(64);
    let mut out = std::io::stdout().lock();
    loop {
        out.write_all(block.as_bytes())?;
    }
}

fn hold() -> ! {
    loop {
        std::thread::sleep(Duration::MAX);
    }
}
