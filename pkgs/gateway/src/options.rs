//! Command line and environment.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kiln_daemon::exit::Exit;
use lexopt::Arg;

use crate::config::Ports;
use crate::limits::WORKERS_MAX;

/// The file that is read if the command line names no file.
const FILE: &str = "servers.toml";

/// Environment variables with the ports of the implicit listeners.
const HTTPS_PORT: &str = "KILN_GATEWAY_HTTPS_PORT";
const HTTP_PORT: &str = "KILN_GATEWAY_HTTP_PORT";

/// The text of `--help`.
pub const HELP: &str = "\
Routes connections by TLS server name and HTTP Host.

usage: gateway [FILE] [option]...     serve; FILE is servers.toml by default
       gateway check FILE             print the problems of FILE; exit with 1 if there are any
       gateway routes FILE NAME       print where a client that asks for NAME is sent

  --ops-addr ADDRESS:PORT   answer /live, /ready and /metrics on this address [closed]
  --drain-delay SECONDS     after SIGTERM, accept clients for this long while /ready is 503; at most 15 [0]
  --workers N               number of threads [one per processor, within the control group's quota]
  --access-log              write one line of JSON per connection to standard output
  --resolv-conf FILE        the resolver's configuration [/etc/resolv.conf]
  --hosts FILE              the resolver's table of hosts [/etc/hosts]
  -h, --help                print this help
  -V, --version             print the version

The gateway reads FILE again when it changes and on SIGHUP. SIGTERM stops it within 25 seconds.
KILN_GATEWAY_HTTPS_PORT and KILN_GATEWAY_HTTP_PORT set the ports for a FILE without [[listener]].
KILN_LOG sets the lowest level to log (off, error, warn, info, debug, trace).
";

/// The maximum of `--drain-delay`, in seconds. The delay is part of the 25 seconds from SIGTERM to the
/// exit, and at least 10 of them must be left for the connections that are open after the delay.
const DELAY_MAX: u64 = 15;

/// The task that the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Print the help.
    Help,
    /// Print the problems of a file.
    Check(PathBuf, Ports),
    /// Print where a client that asks for a name is sent.
    Routes(PathBuf, String, Ports),
    /// Serve.
    Serve(Options),
}

/// The options for serving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The configuration.
    pub file: PathBuf,
    /// Ports of the implicit listeners.
    pub ports: Ports,
    /// The address of the operations port.
    pub ops: Option<SocketAddr>,
    /// The time after SIGTERM during which connections are still accepted.
    pub drain_delay: Duration,
    /// The number of threads; `None` is one per processor.
    pub workers: Option<usize>,
    /// True to write an access log.
    pub access_log: bool,
    /// The resolver's configuration.
    pub resolv_conf: PathBuf,
    /// The resolver's table of hosts.
    pub hosts: PathBuf,
}

/// Parses the arguments (without the program's name) and the environment.
pub fn parse(
    args: &[OsString],
    environment: impl Fn(&str) -> Option<OsString>,
) -> anyhow::Result<Command> {
    let ports = Ports {
        https: port(HTTPS_PORT, Ports::default().https, &environment)?,
        http: port(HTTP_PORT, Ports::default().http, &environment)?,
    };
    command(args, ports).context(Exit::Usage)
}

fn command(args: &[OsString], ports: Ports) -> anyhow::Result<Command> {
    let mut options = Options {
        file: FILE.into(),
        ports,
        ops: None,
        drain_delay: Duration::ZERO,
        workers: None,
        access_log: false,
        resolv_conf: "/etc/resolv.conf".into(),
        hosts: "/etc/hosts".into(),
    };
    let defaults = options.clone();
    let mut parser = lexopt::Parser::from_args(args);
    let mut words = Vec::new();
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Long("ops-addr") => options.ops = Some(address(&parser.value()?)?),
            Arg::Long("drain-delay") => options.drain_delay = delay(&parser.value()?)?,
            Arg::Long("workers") => options.workers = Some(workers(&parser.value()?)?),
            Arg::Long("access-log") => options.access_log = true,
            Arg::Long("resolv-conf") => options.resolv_conf = parser.value()?.into(),
            Arg::Long("hosts") => options.hosts = parser.value()?.into(),
            Arg::Value(word) => words.push(word),
            other => return Err(other.unexpected().into()),
        }
    }
    let is_default = options == defaults;
    match words.first().and_then(|word| word.to_str()) {
        Some("check") if is_default => check(&words[1..], ports),
        Some("routes") if is_default => routes(&words[1..], ports),
        Some(verb @ ("check" | "routes")) => bail!("{verb} takes no options"),
        _ => serve(words, options),
    }
}

fn check(words: &[OsString], ports: Ports) -> anyhow::Result<Command> {
    let [file] = words else { bail!("check takes one FILE; see --help") };
    Ok(Command::Check(file.into(), ports))
}

fn routes(words: &[OsString], ports: Ports) -> anyhow::Result<Command> {
    let [file, name] = words else { bail!("routes takes FILE and NAME; see --help") };
    let name = name.to_str().context("NAME is not UTF-8")?;
    Ok(Command::Routes(file.into(), name.to_owned(), ports))
}

fn serve(words: Vec<OsString>, mut options: Options) -> anyhow::Result<Command> {
    for (count, file) in words.into_iter().enumerate() {
        if count > 0 {
            bail!("more than one FILE: {}", file.display());
        }
        options.file = file.into();
    }
    Ok(Command::Serve(options))
}

fn address(value: &OsStr) -> anyhow::Result<SocketAddr> {
    let address = value.to_str().and_then(|text| text.parse().ok());
    address.with_context(|| format!("--ops-addr: {} is not ADDRESS:PORT", value.display()))
}

fn delay(value: &OsStr) -> anyhow::Result<Duration> {
    let seconds = value.to_str().and_then(|text| text.parse().ok());
    let seconds = seconds.filter(|seconds| *seconds <= DELAY_MAX);
    let text = || format!("--drain-delay: {} is not 0 to {DELAY_MAX} seconds", value.display());
    seconds.map(Duration::from_secs).with_context(text)
}

fn workers(value: &OsStr) -> anyhow::Result<usize> {
    let count = value.to_str().and_then(|text| text.parse().ok());
    let count = count.filter(|count| (1..=WORKERS_MAX).contains(count));
    count.with_context(|| format!("--workers: {} is not 1 to {WORKERS_MAX}", value.display()))
}

/// Returns a port from the environment.
///
/// For a Service called `name`, Kubernetes sets `NAME_PORT=tcp://…` in every pod. Such a value is not
/// meant for the gateway and is ignored.
fn port(
    name: &str,
    usual: u16,
    environment: impl Fn(&str) -> Option<OsString>,
) -> anyhow::Result<u16> {
    let Some(value) = environment(name).filter(|value| !value.is_empty()) else { return Ok(usual) };
    if value.as_encoded_bytes().starts_with(b"tcp://") {
        tracing::info!("ignored {name}={}: it is the address of a Service", value.display());
        return Ok(usual);
    }
    let port = value.to_str().and_then(|text| text.parse().ok());
    let text = || format!("{name}: {} is not a port (0 to 65535)", value.display());
    port.with_context(text).context(Exit::Config)
}

#[cfg(test)]
mod tests {
    use super::{Command, Options, parse};
    use crate::config::Ports;
    use kiln_daemon::exit::Exit;
    use std::ffi::OsString;

    fn run(args: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Command> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let lookup = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        };
        parse(&args, lookup)
    }

    fn served(args: &[&str], environment: &[(&str, &str)]) -> Options {
        match run(args, environment).unwrap() {
            Command::Serve(options) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_file_is_servers_toml_by_default() {
        assert_eq!(served(&[], &[]).file.to_str(), Some("servers.toml"));
        assert_eq!(served(&["x.toml"], &[]).file.to_str(), Some("x.toml"));
        let all = [
            "x.toml",
            "--ops-addr",
            "127.0.0.1:9",
            "--drain-delay=5",
            "--workers",
            "2",
            "--access-log",
        ];
        let options = served(&all, &[]);
        assert_eq!((options.ops.unwrap().port(), options.drain_delay.as_secs()), (9, 5));
        assert_eq!((options.workers, options.access_log), (Some(2), true));
    }

    #[test]
    fn the_address_of_a_service_is_not_mistaken_for_a_port() {
        let service = ("KILN_GATEWAY_HTTPS_PORT", "tcp://10.0.0.1:443");
        assert_eq!(served(&[], &[service]).ports, Ports::default());
        let ours = ("KILN_GATEWAY_HTTP_PORT", "8080");
        assert_eq!(served(&[], &[service, ours]).ports, Ports { https: 443, http: 8080 });
    }

    #[test]
    fn verbs_take_their_arguments_and_no_options() {
        let ports = Ports::default();
        assert_eq!(run(&["check", "f"], &[]).unwrap(), Command::Check("f".into(), ports));
        let routes = Command::Routes("f".into(), "n".into(), ports);
        assert_eq!(run(&["routes", "f", "n"], &[]).unwrap(), routes);
        for help in [&["--help"][..], &["f", "-h"], &["check", "--help"]] {
            assert_eq!(run(help, &[]).unwrap(), Command::Help);
        }
        assert!(run(&["check", "f", "--access-log"], &[]).is_err());
    }

    #[test]
    fn an_error_names_the_option_and_the_value() {
        for (args, environment, exit, expected) in [
            (&["check"][..], &[][..], Exit::Usage, "wrong usage: check takes one FILE"),
            (&["a", "b"], &[], Exit::Usage, "wrong usage: more than one FILE: b"),
            (&["--nonsense"], &[], Exit::Usage, "wrong usage: invalid option '--nonsense'"),
            (
                &["--ops-addr"],
                &[],
                Exit::Usage,
                "wrong usage: missing argument for option '--ops-addr'",
            ),
            (
                &["--drain-delay=16"],
                &[],
                Exit::Usage,
                "wrong usage: --drain-delay: 16 is not 0 to 15 seconds",
            ),
            (
                &[],
                &[("KILN_GATEWAY_HTTP_PORT", "x")],
                Exit::Config,
                "wrong configuration: KILN_GATEWAY_HTTP_PORT: x is not a port",
            ),
        ] {
            let error = run(args, environment).unwrap_err();
            assert_eq!(Exit::of(&error), exit);
            assert!(format!("{error:#}").starts_with(expected), "{error:#}");
        }
    }
}
