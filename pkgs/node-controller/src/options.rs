//! The command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, bail};
use kiln_daemon::exit::Exit;
use lexopt::{Arg, Parser, ValueExt as _};

use crate::certificate::rules::Pattern;

/// The address of the operations port: loopback, because the pod uses the host's network.
const OPERATIONS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 10268);

/// The text of `--help`.
pub const HELP: &str = "\
The controller of a cluster's Kiln nodes: approves kubelets' requests for serving certificates.

Usage: node-controller [OPTIONS]

Options:
  --kubeconfig FILE      use this file instead of the pod's service account
  --operations ADDRESS   where /live, /ready and /metrics are served [default: 127.0.0.1:10268]
  --reserve WHAT         a host name, address or network that no node's certificate may name, such as
                         the address of the load balancer in front of the API servers; repeatable
  --help                 show this text
  --version              show the version
";

/// The requested action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Print the help.
    Help,
    /// Run until a signal.
    Run(Options),
}

/// Options of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// A kubeconfig; without one, the service account of the pod is used.
    pub kubeconfig: Option<PathBuf>,
    /// The address of the operations port.
    pub operations: SocketAddr,
    /// Names and addresses that no node may have.
    pub reserved: Vec<Pattern>,
}

/// Parses the command line. An error has [`Exit::Usage`].
pub fn parse(arguments: &[OsString]) -> Result<Command> {
    read(arguments).context(Exit::Usage)
}

fn read(arguments: &[OsString]) -> Result<Command> {
    let mut options = Options { kubeconfig: None, operations: OPERATIONS, reserved: Vec::new() };
    let mut parser = Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            Arg::Long("kubeconfig") => options.kubeconfig = Some(parser.value()?.into()),
            Arg::Long("operations") => options.operations = parser.value()?.parse()?,
            Arg::Long("reserve") => {
                let text = parser.value()?.string()?;
                let pattern = text.parse().map_err(|error: String| anyhow!("--reserve: {error}"));
                options.reserved.push(pattern?);
            }
            Arg::Value(value) => bail!("unexpected argument {}", value.display()),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(Command::Run(options))
}

#[cfg(test)]
mod tests {
    use super::{Command, OPERATIONS, parse};

    fn run(arguments: &[&str]) -> Result<Command, String> {
        let arguments: Vec<_> = arguments.iter().map(Into::into).collect();
        parse(&arguments).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn options_are_read() {
        let Ok(Command::Run(options)) = run(&[]) else { panic!("no options are needed") };
        assert_eq!((options.operations, options.reserved.len()), (OPERATIONS, 0));
        let all = ["--kubeconfig", "a", "--operations=[::1]:1", "--reserve", "10.0.0.0/8"];
        let Ok(Command::Run(options)) = run(&all) else { panic!("the options are valid") };
        assert_eq!(options.operations.to_string(), "[::1]:1");
        assert_eq!(options.reserved, ["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(run(&["--help"]), Ok(Command::Help));
    }

    #[test]
    fn a_mistake_names_the_argument() {
        for (arguments, expected) in [
            (vec!["--reserve", "*.example"], "--reserve: \"*.example\" is not a host name"),
            (vec!["--operations", "x"], "\"x\""),
            (vec!["--leader"], "--leader"),
            (vec!["now"], "unexpected argument now"),
        ] {
            let error = run(&arguments).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
