//! Serves a folder over HTTP/1.1: see [`static_server`] for how, `--help` for use.

use std::process::ExitCode;

use anyhow::Context as _;
use kiln_daemon::exit::Exit;
use kiln_daemon::signal::Termination;
use static_server::options::{self, Command};
use static_server::pack;
use static_server::server::Server;
use static_server::site::Site;

fn main() -> ExitCode {
    kiln_daemon::main("static-server", env!("CARGO_PKG_VERSION"), |args| {
        if let [first, rest @ ..] = &args[..]
            && first == "pack"
        {
            return pack::packer::replace_by_packer(rest);
        }
        match options::parse(args, |name| std::env::var_os(name))? {
            Command::Help => {
                print!("{}", options::help());
                Ok(())
            }
            Command::Serve(options) => serve(&options),
        }
    })
}

fn serve(options: &options::Options) -> anyhow::Result<()> {
    let termination = Termination::new().context("blocking SIGTERM and SIGINT")?;
    let site = Site::load(&options.folder).context(Exit::Config)?;
    tracing::info!(
        paths = site.len(),
        bytes = site.bytes(),
        "{} is read",
        options.folder.display()
    );
    let mut server = Server::new(options, site)?;
    tracing::info!("serving on {}", server.address());
    server.run(&termination)
}
