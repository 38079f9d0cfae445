//! The command line of `pages serve`.

use std::ffi::OsString;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kiln_daemon::exit::Exit;
use lexopt::{Arg, Parser, ValueExt as _};

/// The text of `pages serve --help`.
pub const HELP: &str = "\
Follows a syncer and answers the visitors of all sites.

Usage: pages serve --syncer URL --token FILE [OPTIONS]

Options:
  --syncer URL           the syncer's HTTP API, such as http://syncer.pages.svc.cluster.local:8081;
                         repeatable: after a failure the next one is asked
  --token FILE           a file with the token for the syncer; its last line is used
  --data FOLDER          where the revisions in force are kept [default: /data]
  --listen ADDRESS       where visitors are answered [default: [::]:8080]
  --operations ADDRESS   where /live, /ready and /metrics are served [default: [::]:9090]
  --workers NUMBER       the number of workers [default: one for each processor]
  --access-log           write a line of JSON for each answer
  --drain SECONDS        how long to go on accepting visitors after SIGTERM [default: 5]
  --help                 show this text
";

/// The requested action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Print the help.
    Help,
    /// Serve.
    Run(Options),
}

/// Options of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The beginnings of the addresses of the syncers' API.
    pub syncers: Vec<String>,
    /// The file with the token.
    pub token: PathBuf,
    /// The folder for the table and the packs.
    pub data: PathBuf,
    /// The address for visitors.
    pub listen: SocketAddr,
    /// The address for operators.
    pub operations: SocketAddr,
    /// The number of workers; `None` for one per processor.
    pub workers: Option<usize>,
    /// True if answers are logged.
    pub access_log: bool,
    /// The time after SIGTERM during which visitors are still accepted.
    pub drain: Duration,
}

/// Parses the arguments after the role. An error has [`Exit::Usage`].
pub fn parse(arguments: &[OsString]) -> Result<Command> {
    read(arguments).context(Exit::Usage)
}

fn read(arguments: &[OsString]) -> Result<Command> {
    let any = |port| SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    let mut options = Options {
        syncers: Vec::new(),
        token: PathBuf::new(),
        data: "/data".into(),
        listen: any(8080),
        operations: any(9090),
        workers: None,
        access_log: false,
        drain: Duration::from_secs(5),
    };
    let mut parser = Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            Arg::Long("syncer") => options.syncers.push(parser.value()?.string()?),
            Arg::Long("token") => options.token = parser.value()?.into(),
            Arg::Long("data") => options.data = parser.value()?.into(),
            Arg::Long("listen") => options.listen = parser.value()?.parse()?,
            Arg::Long("operations") => options.operations = parser.value()?.parse()?,
            Arg::Long("workers") => options.workers = Some(workers(parser.value()?.parse()?)?),
            Arg::Long("access-log") => options.access_log = true,
            Arg::Long("drain") => options.drain = Duration::from_secs(parser.value()?.parse()?),
            Arg::Value(value) => bail!("unexpected argument {}", value.display()),
            other => return Err(other.unexpected().into()),
        }
    }
    let is_address = |one: &String| one.starts_with("http://") || one.starts_with("https://");
    if options.syncers.is_empty() || !options.syncers.iter().all(is_address) {
        bail!(
            "--syncer must be an http or https address such as http://syncer.pages.svc.cluster.local:8081"
        );
    }
    if options.token.as_os_str().is_empty() {
        bail!("--token FILE is missing; the file has the token that the syncer accepts");
    }
    Ok(Command::Run(options))
}

fn workers(number: usize) -> Result<usize> {
    if number == 0 || number > 1024 {
        bail!("--workers must be 1 to 1024");
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::{Command, parse};
    use std::ffi::OsString;

    fn check(line: &str, expected: &str) {
        let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        match parse(&arguments) {
            Ok(Command::Help) => assert_eq!(expected, "help"),
            Ok(Command::Run(options)) => {
                assert_eq!(expected, format!("{} {}", options.syncers.join(","), options.listen));
            }
            Err(error) => assert!(format!("{error:#}").contains(expected), "{error:#}"),
        }
    }

    #[test]
    fn the_syncer_and_its_token_are_needed() {
        check("--help", "help");
        check("--syncer http://s --token t", "http://s [::]:8080");
        check("--syncer http://s --token t --listen 127.0.0.1:0", "http://s 127.0.0.1:0");
        check("--syncer http://a --syncer http://b --token t", "http://a,http://b [::]:8080");
        check("--token t", "--syncer must be an http or https address");
        check("--syncer ftp://s --token t", "--syncer must be an http or https address");
        check("--syncer http://s", "--token FILE is missing");
        check("--syncer http://s --token t --workers 0", "--workers must be 1 to 1024");
        check("--syncer http://s --token t x", "unexpected argument x");
        check("--unknown", "invalid option '--unknown'");
    }
}
