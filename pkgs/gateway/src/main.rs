//! Routes connections by TLS server name and HTTP Host; see [`gateway`] for the code and `--help` for
//! usage.

use std::process::ExitCode;

use gateway::options::{self, Command};

fn main() -> ExitCode {
    kiln_daemon::main("gateway", env!("CARGO_PKG_VERSION"), |args| {
        match options::parse(&args, |name| std::env::var_os(name))? {
            Command::Help => {
                print!("{}", options::HELP);
                Ok(())
            }
            Command::Check(file, ports) => std::process::exit(gateway::lint::check(&file, ports)),
            Command::Routes(file, name, ports) => {
                std::process::exit(gateway::lint::routes(&file, &name, ports))
            }
            Command::Serve(options) => gateway::serve::run(&options),
        }
    })
}
