//! Command line and environment.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kiln_daemon::exit::Exit;

use crate::config::Ports;

/// The file that is read if none is named.
const FILE: &str = "servers.toml";

/// Environment variables with the ports of the implicit listeners.
const HTTPS_PORT: &str = "KILN_GATEWAY_HTTPS_PORT";
const HTTP_PORT: &str = "KILN_GATEWAY_HTTP_PORT";

/// The text of `--help`.
pub const HELP: &str = "\
Routes connections by TLS server name and HTTP Host.

usage: gateway [FILE] [option]...     serves; FILE is servers.toml if none is named
       gateway check FILE             says what is wrong with it; 1 if anything is
       gateway routes FILE NAME       prints where a client goes that asks for NAME

  --ops-addr ADDRESS:PORT   answers /health, /ready and /metrics there; closed unless given
  --drain-delay SECONDS     goes on accepting so long after SIGTERM, while /ready says 503; at most 15 [0]
  --workers N               threads [one per processor, within the control group's quota]
  --access-log              one line of JSON per connection on standard output
  --resolv-conf FILE        [/etc/resolv.conf]
  --hosts FILE              [/etc/hosts]
  -h, --help
  -V, --version

SIGHUP, or a change of FILE, makes it read FILE again; SIGTERM ends it within 25 seconds.
KILN_GATEWAY_HTTPS_PORT and KILN_GATEWAY_HTTP_PORT are the ports of a FILE without [[listener]].
KILN_LOG sets the lowest level to log (off, error, warn, info, debug, trace).
";

/// Most seconds of `--drain-delay`: they are a part of the 25 from SIGTERM to the end, and 10 are
/// left to the connections that are open then.
const MOST_DELAY: u64 = 15;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Print the help.
    Help,
    /// Lint a file.
    Check(PathBuf, Ports),
    /// Say where a name goes.
    Routes(PathBuf, String, Ports),
    /// Serve.
    Serve(Options),
}

/// How to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The configuration.
    pub file: PathBuf,
    /// Ports of the implicit listeners.
    pub ports: Ports,
    /// Where health and metrics are.
    pub ops: Option<SocketAddr>,
    /// How long connections are still accepted after SIGTERM.
    pub drain_delay: Duration,
    /// Threads, if not one per processor.
    pub workers: Option<usize>,
    /// Whether there is an access log.
    pub access_log: bool,
    /// Where name servers are named.
    pub resolv_conf: PathBuf,
    /// Where hosts are named.
    pub hosts: PathBuf,
}

/// Reads the arguments (without the program's name) and the environment.
pub fn parse(
    args: &[OsString],
    environment: impl Fn(&str) -> Option<OsString>,
) -> anyhow::Result<Command> {
    let ports = Ports {
        https: port(HTTPS_PORT, Ports::default().https, &environment)?,
        http: port(HTTP_PORT, Ports::default().http, &environment)?,
    };
    let word = |index: usize| args.get(index).and_then(|arg| arg.to_str());
    match (word(0), args.len()) {
        (Some("check"), 2) => Ok(Command::Check(PathBuf::from(&args[1]), ports)),
        (Some("check"), _) => Err(usage("check takes one FILE")),
        (Some("routes"), 3) => {
            let name = word(2).ok_or_else(|| usage("NAME is not UTF-8"))?;
            Ok(Command::Routes(PathBuf::from(&args[1]), name.to_owned(), ports))
        }
        (Some("routes"), _) => Err(usage("routes takes FILE and NAME")),
        _ if args.iter().any(|arg| arg == "--help" || arg == "-h") => Ok(Command::Help),
        _ => serve(args, ports).context(Exit::Usage),
    }
}

fn usage(text: &str) -> anyhow::Error {
    anyhow::anyhow!("{text}; --help has more").context(Exit::Usage)
}

fn serve(args: &[OsString], ports: Ports) -> anyhow::Result<Command> {
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
    let mut file = None;
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let text = arg.to_str().unwrap_or_default();
        let (name, attached) =
            text.split_once('=').map_or((text, None), |(n, v)| (n, Some(v.into())));
        if !text.starts_with('-') {
            if file.replace(PathBuf::from(arg)).is_some() {
                bail!("more than one FILE: {}", arg.display());
            }
            continue;
        }
        if name == "--access-log" && attached.is_none() {
            options.access_log = true;
            continue;
        }
        let value = || {
            attached
                .or_else(|| rest.next().cloned())
                .with_context(|| format!("{name} needs a value"))
        };
        option(&mut options, name, value)?;
    }
    options.file = file.unwrap_or(options.file);
    Ok(Command::Serve(options))
}

fn option(
    options: &mut Options,
    name: &str,
    value: impl FnOnce() -> anyhow::Result<OsString>,
) -> anyhow::Result<()> {
    let known = ["--ops-addr", "--drain-delay", "--workers", "--resolv-conf", "--hosts"];
    if !known.contains(&name) {
        bail!("unknown option {name}; --help lists them");
    }
    let value = value()?;
    let text = value.to_str().unwrap_or_default();
    match name {
        "--ops-addr" => {
            let address = text.parse().ok();
            options.ops = Some(
                address.with_context(|| format!("{name}: {text} is not an address with a port"))?,
            );
        }
        "--drain-delay" => {
            let seconds = text.parse().ok().filter(|seconds| *seconds <= MOST_DELAY);
            let seconds = seconds.with_context(|| {
                format!("{name}: {text} is not within 0 and {MOST_DELAY} seconds")
            })?;
            options.drain_delay = Duration::from_secs(seconds);
        }
        "--workers" => {
            let count = text.parse().ok().filter(|count| (1..=64).contains(count));
            options.workers =
                Some(count.with_context(|| format!("{name}: {text} is not within 1 and 64"))?);
        }
        "--resolv-conf" => options.resolv_conf = value.into(),
        _ => options.hosts = value.into(),
    }
    Ok(())
}

/// A port of the environment.
///
/// Kubernetes sets `NAME_PORT=tcp://…` in every pod for a Service called `name`: such a value was
/// not meant for us.
fn port(
    name: &str,
    usual: u16,
    environment: impl Fn(&str) -> Option<OsString>,
) -> anyhow::Result<u16> {
    let Some(value) = environment(name).filter(|value| !value.is_empty()) else { return Ok(usual) };
    if value.as_encoded_bytes().starts_with(b"tcp://") {
        tracing::info!("{name}={} is a Service's address, ignored", value.display());
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
    fn the_file_is_the_first_argument_or_servers_toml() {
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
    fn what_kubernetes_sets_for_a_service_is_not_a_port() {
        let service = ("KILN_GATEWAY_HTTPS_PORT", "tcp://10.0.0.1:443");
        assert_eq!(served(&[], &[service]).ports, Ports::default());
        let ours = ("KILN_GATEWAY_HTTP_PORT", "8080");
        assert_eq!(served(&[], &[service, ours]).ports, Ports { https: 443, http: 8080 });
    }

    #[test]
    fn verbs_take_what_they_need() {
        let ports = Ports::default();
        assert_eq!(run(&["check", "f"], &[]).unwrap(), Command::Check("f".into(), ports));
        let routes = Command::Routes("f".into(), "n".into(), ports);
        assert_eq!(run(&["routes", "f", "n"], &[]).unwrap(), routes);
        assert_eq!(run(&["--help"], &[]).unwrap(), Command::Help);
    }

    #[test]
    fn an_error_names_the_place_and_the_value() {
        for (args, environment, exit, expected) in [
            (&["check"][..], &[][..], Exit::Usage, "wrong usage: check takes one FILE"),
            (&["a", "b"], &[], Exit::Usage, "wrong usage: more than one FILE: b"),
            (&["--nonsense"], &[], Exit::Usage, "wrong usage: unknown option --nonsense"),
            (&["--ops-addr"], &[], Exit::Usage, "wrong usage: --ops-addr needs a value"),
            (
                &["--drain-delay=16"],
                &[],
                Exit::Usage,
                "wrong usage: --drain-delay: 16 is not within",
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
