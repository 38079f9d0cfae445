//! Command line and environment.
//!
//! Every setting is one row of [`SETTINGS`]. Precedence: flag, our variable, the variable of KISS
//! (the server that this one stands in for), default. An empty variable counts as not set.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kiln_daemon::exit::Exit;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `--help`.
    Help,
    /// Everything else.
    Serve(Options),
}

/// How to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Address to listen on; `::` takes both families.
    pub address: IpAddr,
    /// Port to listen on; 0 takes a free one.
    pub port: u16,
    /// Folder with the content.
    pub folder: PathBuf,
    /// Most bytes of a request's line and header fields together.
    pub head_limit: usize,
    /// How long a client may take for a whole head, and for taking any byte of an answer.
    pub head_timeout: Duration,
    /// How long a connection may stay idle between two requests.
    pub idle_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: Ipv4Addr::UNSPECIFIED.into(),
            port: 8080,
            folder: "./content".into(),
            head_limit: 8192,
            head_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(5),
        }
    }
}

/// One setting: its names and how its text is taken.
struct Setting {
    long: &'static str,
    short: &'static str,
    /// Our environment variable, then KISS's.
    variables: [&'static str; 2],
    default: &'static str,
    about: &'static str,
    set: fn(&mut Options, &OsStr) -> anyhow::Result<()>,
}

const SETTINGS: [Setting; 6] = [
    Setting {
        long: "--bind-ip",
        short: "-b",
        variables: ["KILN_WEB_BIND_IP", "KISS_BIND_IP"],
        default: "0.0.0.0",
        about: "address to listen on, :: for both families",
        set: |options, text| number(text, "an IP address").map(|value| options.address = value),
    },
    Setting {
        long: "--port",
        short: "-p",
        variables: ["KILN_WEB_PORT", "KISS_PORT"],
        default: "8080",
        about: "port to listen on, 0 for a free one",
        set: |options, text| number(text, "a port (0 to 65535)").map(|value| options.port = value),
    },
    Setting {
        long: "--static-dir",
        short: "-s",
        variables: ["KILN_WEB_STATIC_DIR", "KISS_STATIC_DIR"],
        default: "./content",
        about: "folder with the content",
        set: |options, text| {
            options.folder = text.into();
            Ok(())
        },
    },
    Setting {
        long: "--max-request-size",
        short: "-r",
        variables: ["KILN_WEB_MAX_REQUEST_SIZE", "KISS_MAX_REQUEST_SIZE"],
        default: "8192",
        about: "most bytes of a request's head (256 to 1048576)",
        set: |options, text| within(text, 256, 1 << 20).map(|value| options.head_limit = value),
    },
    Setting {
        long: "--connection-timeout-secs",
        short: "-c",
        variables: ["KILN_WEB_CONNECTION_TIMEOUT", "KISS_CONNECTION_TIMEOUT"],
        default: "30",
        about: "seconds for a whole head, and for no progress of an answer",
        set: |options, text| seconds(text).map(|value| options.head_timeout = value),
    },
    Setting {
        long: "--keepalive-timeout-secs",
        short: "-k",
        variables: ["KILN_WEB_KEEPALIVE_TIMEOUT", "KISS_KEEPALIVE_TIMEOUT"],
        default: "5",
        about: "seconds that a connection may be idle between requests",
        set: |options, text| seconds(text).map(|value| options.idle_timeout = value),
    },
];

fn number<T: FromStr>(text: &OsStr, wanted: &str) -> anyhow::Result<T> {
    let parsed = text.to_str().and_then(|text| text.parse().ok());
    parsed.with_context(|| format!("{} is not {wanted}", text.display()))
}

fn within(text: &OsStr, least: usize, most: usize) -> anyhow::Result<usize> {
    let value = number(text, "a number")?;
    if !(least..=most).contains(&value) {
        bail!("{value} is not within {least} and {most}");
    }
    Ok(value)
}

fn seconds(text: &OsStr) -> anyhow::Result<Duration> {
    let value = within(text, 1, 86_400)?;
    Ok(Duration::from_secs(value as u64))
}

/// Reads the arguments (without the program's name) and the environment.
pub fn parse(
    args: Vec<OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> anyhow::Result<Command> {
    let mut options = Options::default();
    for setting in &SETTINGS {
        if let Some((name, value)) = variable(setting, &environment) {
            (setting.set)(&mut options, &value).context(name).context(Exit::Config)?;
        }
    }
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if arg == "--help" || arg == "-h" {
            return Ok(Command::Help);
        }
        flag(&mut options, &arg, &mut args).context(Exit::Usage)?;
    }
    Ok(Command::Serve(options))
}

/// The variable that counts for a setting, with its value.
///
/// Kubernetes sets `NAME_PORT=tcp://…` in every pod for a Service called `name`: such a value of a
/// port's variable was not meant for us.
fn variable(
    setting: &Setting,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Option<(&'static str, OsString)> {
    setting.variables.iter().find_map(|name| {
        let value = environment(name).filter(|value| !value.is_empty())?;
        let of_a_service = value.as_encoded_bytes().starts_with(b"tcp://");
        if of_a_service && setting.long == "--port" {
            tracing::info!("{name}={} is a Service's address, ignored", value.display());
            return None;
        }
        Some((*name, value))
    })
}

/// Takes `--name value`, `--name=value`, `-n value` or `-nvalue`.
fn flag(
    options: &mut Options,
    arg: &OsStr,
    rest: &mut impl Iterator<Item = OsString>,
) -> anyhow::Result<()> {
    let text = arg.to_str().unwrap_or_default();
    let unknown = || format!("unknown option {}; --help lists them", arg.display());
    let (setting, attached) = SETTINGS.iter().find_map(|s| s.cut(text)).with_context(unknown)?;
    let value = match attached {
        "" => rest.next().with_context(|| format!("{} needs a value", setting.long))?,
        _ => attached.strip_prefix('=').unwrap_or(attached).into(),
    };
    (setting.set)(options, &value).context(setting.long)
}

impl Setting {
    /// If `text` is this setting's flag: the setting, and what is attached to the flag.
    fn cut<'a>(&self, text: &'a str) -> Option<(&Self, &'a str)> {
        let long = text.strip_prefix(self.long);
        let long = long.filter(|attached| attached.is_empty() || attached.starts_with('='));
        Some((self, long.or_else(|| text.strip_prefix(self.short))?))
    }
}

/// The text of `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = String::from(
        "Serves a folder of immutable content over HTTP/1.1.\n\n\
         usage: static-server [option value]...\n\n",
    );
    for setting in &SETTINGS {
        let Setting { long, short, variables: [ours, kiss], default, about, .. } = setting;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {short}, {long} VALUE\n      {about}");
        let _ = writeln!(text, "      [default: {default}; {ours}, {kiss}]");
    }
    text.push_str(
        "  -h, --help\n  -V, --version\n\n\
         A flag counts before a variable. /health and /ready answer unless a file has that name.\n\
         KILN_LOG sets the lowest level to log (off, error, warn, info, debug, trace).\n",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::{Command, Exit, Options, SETTINGS, help, parse};
    use std::ffi::{OsStr, OsString};

    fn run(args: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<Command> {
        let lookup = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into())
        };
        parse(args.iter().map(OsString::from).collect(), lookup)
    }

    fn check_port(args: &[&str], environment: &[(&str, &str)], expected: u16) {
        let command = run(args, environment).unwrap();
        assert_eq!(command, Command::Serve(Options { port: expected, ..Options::default() }));
    }

    #[test]
    fn a_flag_counts_before_ours_before_kiss_before_the_default() {
        let (ours, kiss) = (("KILN_WEB_PORT", "2"), ("KISS_PORT", "3"));
        check_port(&["-p", "1"], &[ours, kiss], 1);
        check_port(&[], &[ours, kiss], 2);
        check_port(&[], &[kiss], 3);
        check_port(&[], &[], 8080);
    }

    #[test]
    fn a_flag_may_hold_its_value() {
        for args in [&["--port=9"][..], &["--port", "9"], &["-p9"], &["-p", "9"]] {
            check_port(args, &[], 9);
        }
    }

    #[test]
    fn what_kubernetes_sets_for_a_service_is_not_a_port() {
        check_port(&[], &[("KISS_PORT", "tcp://10.0.0.1:80")], 8080);
        check_port(&[], &[("KILN_WEB_PORT", "tcp://10.0.0.1:80"), ("KISS_PORT", "7")], 7);
        check_port(&[], &[("KILN_WEB_PORT", "")], 8080);
    }

    fn check_error(args: &[&str], environment: &[(&str, &str)], exit: Exit, expected: &str) {
        let error = run(args, environment).unwrap_err();
        assert_eq!((Exit::of(&error), format!("{error:#}").as_str()), (exit, expected));
    }

    #[test]
    fn an_error_names_the_place_and_the_value() {
        check_error(
            &["--port=x"],
            &[],
            Exit::Usage,
            "wrong usage: --port: x is not a port (0 to 65535)",
        );
        check_error(&["--port"], &[], Exit::Usage, "wrong usage: --port needs a value");
        check_error(
            &["--ports", "1"],
            &[],
            Exit::Usage,
            "wrong usage: unknown option --ports; --help lists them",
        );
        check_error(
            &[],
            &[("KISS_KEEPALIVE_TIMEOUT", "0")],
            Exit::Config,
            "wrong configuration: KISS_KEEPALIVE_TIMEOUT: 0 is not within 1 and 86400",
        );
    }

    #[test]
    fn the_defaults_in_the_help_are_the_defaults() {
        let mut options = Options::default();
        for setting in &SETTINGS {
            (setting.set)(&mut options, OsStr::new(setting.default)).unwrap();
            assert!(help().contains(setting.long));
        }
        assert_eq!(options, Options::default());
        assert_eq!(run(&["-p", "1", "--help"], &[]).unwrap(), Command::Help);
    }
}
