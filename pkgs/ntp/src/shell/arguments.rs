//! The command line and environment, as a manifest gives them.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, anyhow, bail};
use kiln_daemon::exit::Exit;
use lexopt::Arg::Long;
use lexopt::ValueExt as _;

/// NTP's UDP port.
const PORT: u16 = 123;
/// Environment variable with the servers, used if the command line has none.
const VARIABLE: &str = "NTP_SERVERS";
/// The list of arguments, for error messages.
const USAGE: &str = "the arguments are --server NAME[:PORT], --resolv-conf FILE and \
                     --version";

/// The command line and the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// `--server NAME`, which can be repeated, or else `NTP_SERVERS`, separated by blanks or commas.
    pub servers: Vec<Server>,
    /// `--resolv-conf FILE`: the file with the name servers. It is read before each look-up, because the
    /// dhcp pod may write it after this program has started.
    pub resolv_conf: PathBuf,
}

/// A time server: `NAME`, `NAME:PORT`, `IPv4`, `IPv4:PORT`, `IPv6` or `[IPv6]:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// An address, which needs no look-up.
    Address(SocketAddr),
    /// A DNS name and a port.
    Name(String, u16),
}

impl Arguments {
    /// Parses the arguments after the program's name; `environment` is the variable's value.
    pub fn parse(arguments: Vec<OsString>, environment: Option<&str>) -> anyhow::Result<Self> {
        let (mut names, mut resolv_conf) = (Vec::new(), PathBuf::from("/etc/resolv.conf"));
        let mut arguments = lexopt::Parser::from_args(arguments);
        read(&mut arguments, &mut names, &mut resolv_conf)
            .map_err(|error| anyhow!("{error}; {USAGE}"))
            .context(Exit::Usage)?;
        if names.is_empty() {
            let words = environment.unwrap_or_default().split([' ', ',']);
            names.extend(words.filter(|word| !word.is_empty()).map(str::to_owned));
        }
        if names.is_empty() {
            let error = anyhow!("no server is configured; give --server NAME or set {VARIABLE}");
            return Err(error).context(Exit::Config);
        }
        let servers: anyhow::Result<_> = names.iter().map(|name| name.parse()).collect();
        Ok(Self { servers: servers.context(Exit::Config)?, resolv_conf })
    }

    /// Parses the given arguments and the environment of this process.
    pub fn of_process(arguments: Vec<OsString>) -> anyhow::Result<Self> {
        Self::parse(arguments, std::env::var(VARIABLE).ok().as_deref())
    }
}

fn read(
    arguments: &mut lexopt::Parser,
    names: &mut Vec<String>,
    resolv_conf: &mut PathBuf,
) -> Result<(), lexopt::Error> {
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("server") => names.push(arguments.value()?.string()?),
            Long("resolv-conf") => *resolv_conf = arguments.value()?.into(),
            _ => return Err(argument.unexpected()),
        }
    }
    Ok(())
}

impl FromStr for Server {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(SocketAddr::new(address, PORT)));
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => {
                (name, port.parse().with_context(|| format!("{text:?} has an invalid port"))?)
            }
            None => (text, PORT),
        };
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || !name.bytes().all(letters) {
            bail!("{text:?} is neither an address nor a DNS name");
        }
        Ok(Self::Name(name.to_owned(), port))
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name, _) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Arguments, Server};
    use kiln_daemon::exit::Exit;

    fn parse(arguments: &[&str], environment: Option<&str>) -> anyhow::Result<Vec<Server>> {
        let arguments = arguments.iter().map(Into::into).collect();
        Arguments::parse(arguments, environment).map(|arguments| arguments.servers)
    }

    fn name(name: &str, port: u16) -> Server {
        Server::Name(name.into(), port)
    }

    #[test]
    fn names_and_addresses_are_distinguished() {
        let check = |text: &str, expected| {
            assert_eq!(parse(&["--server", text], None).unwrap(), [expected]);
        };
        check("time.example", name("time.example", 123));
        check("time.example:1123", name("time.example", 1123));
        check("10.0.2.2", Server::Address("10.0.2.2:123".parse().unwrap()));
        check("10.0.2.2:1123", Server::Address("10.0.2.2:1123".parse().unwrap()));
        check("fd00::1", Server::Address("[fd00::1]:123".parse().unwrap()));
        check("[fd00::1]:1123", Server::Address("[fd00::1]:1123".parse().unwrap()));
    }

    #[test]
    fn the_command_line_wins_over_the_environment() {
        assert_eq!(
            parse(&[], Some("a, b c")).unwrap(),
            [name("a", 123), name("b", 123), name("c", 123)]
        );
        assert_eq!(parse(&["--server", "a"], Some("b")).unwrap(), [name("a", 123)]);
    }

    #[test]
    fn a_wrong_option_is_a_usage_error_and_a_wrong_value_a_configuration_error() {
        let check = |arguments: &[&str], environment, expected| {
            assert_eq!(Exit::of(&parse(arguments, environment).unwrap_err()), expected);
        };
        check(&["--server"], None, Exit::Usage);
        check(&["--port", "1"], None, Exit::Usage);
        check(&["a"], None, Exit::Usage);
        check(&[], None, Exit::Config);
        check(&[], Some(" ,"), Exit::Config);
        check(&["--server", "a b"], None, Exit::Config);
        check(&["--server", "a:x"], None, Exit::Config);
        check(&["--server", ""], None, Exit::Config);
    }
}
