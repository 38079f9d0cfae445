//! Serves immutable content over HTTP/1.1. See [`static_server`] for the design, `--help` for use.

use std::process::ExitCode;

use anyhow::bail;
use static_server::options::{self, Command, Options, Outside};
use static_server::pack;

fn main() -> ExitCode {
    kiln_daemon::main("static-server", env!("CARGO_PKG_VERSION"), |args| {
        if let [first, rest @ ..] = &args[..]
            && first == "pack"
        {
            return pack::packer::replace_by_packer(rest);
        }
        match command()? {
            Command::Help => {
                print!("{}", options::help());
                Ok(())
            }
            Command::Serve(options) => static_server::server::run(&options, reread),
        }
    })
}

fn command() -> anyhow::Result<Command> {
    options::parse(&Outside {
        args: std::env::args_os().skip(1).collect(),
        variable: &|name| std::env::var_os(name),
        file: &|name| std::fs::read_to_string(name),
    })
}

fn reread() -> anyhow::Result<Options> {
    match command()? {
        Command::Serve(options) => Ok(*options),
        Command::Help => bail!("--help"),
    }
}
