//! The command line and environment, as a manifest gives them.

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, anyhow, bail};
use kiln_daemon::exit::Exit;

/// NTP's UDP port.
const PORT: u16 = 123;
/// Environment variable with servers, for when the command line names none.
const VARIABLE: &str = "NTP_SERVERS";

/// What the command line and the environment say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// `--server NAME`, repeated; else `NTP_SERVERS`, separated by blanks or commas.
    pub servers: Vec<Server>,
    /// `--resolv-conf FILE`: where name servers are found. Read before each look-up, because the
    /// dhcp pod may write it later than we start.
    pub resolv_conf: PathBuf,
}

/// A time server: `NAME`, `NAME:PORT`, `IPv4`, `IPv4:PORT`, `IPv6` or `[IPv6]:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// Needs no look-up.
    Address(SocketAddr),
    /// A DNS name and a port.
    Name(String, u16),
}

impl Arguments {
    /// Reads the arguments after the program's name; `environment` is the variable's value.
    pub fn parse(arguments: Vec<OsString>, environment: Option<&str>) -> anyhow::Result<Self> {
        let mut parsed = Self { servers: Vec::new(), resolv_conf: "/etc/resolv.conf".into() };
        let mut arguments = arguments.into_iter();
        while let Some(name) = arguments.next() {
            let value =
                arguments.next().with_context(|| format!("{} needs a value", name.display()));
            match name.to_str() {
                Some("--server") => parsed.servers.push(server(value.context(Exit::Usage)?)?),
                Some("--resolv-conf") => parsed.resolv_conf = value.context(Exit::Usage)?.into(),
                _ => return Err(unknown(&name)),
            }
        }
        if parsed.servers.is_empty() {
            let names = environment.unwrap_or_default().split([' ', ',']);
            let names = names.filter(|name| !name.is_empty());
            parsed.servers = names.map(|name| server(name.into())).collect::<Result<_, _>>()?;
        }
        if parsed.servers.is_empty() {
            let error = anyhow!("no server; give --server NAME or set {VARIABLE}");
            return Err(error).context(Exit::Config);
        }
        Ok(parsed)
    }

    /// From this process's command line's rest and its environment.
    pub fn of_process(arguments: Vec<OsString>) -> anyhow::Result<Self> {
        Self::parse(arguments, std::env::var(VARIABLE).ok().as_deref())
    }
}

fn unknown(name: &OsString) -> anyhow::Error {
    anyhow!(
        "unknown argument {:?}; there are --server NAME[:PORT], --resolv-conf FILE, health, ready, \
         --version",
        name.display()
    )
    .context(Exit::Usage)
}

fn server(text: OsString) -> anyhow::Result<Server> {
    let error = |text: OsString| anyhow!("{:?} is not UTF-8", text.display());
    text.into_string().map_err(error).and_then(|text| text.parse()).context(Exit::Config)
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
                (name, port.parse().with_context(|| format!("the port in {text:?}"))?)
            }
            None => (text, PORT),
        };
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || !name.bytes().all(letters) {
            bail!("{text:?} is neither an address nor a name");
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
    fn names_and_addresses_are_told_apart() {
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
    fn wrong_words_are_told_from_wrong_values() {
        let check = |arguments: &[&str], environment, expected| {
            assert_eq!(Exit::of(&parse(arguments, environment).unwrap_err()), expected);
        };
        check(&["--server"], None, Exit::Usage);
        check(&["--port", "1"], None, Exit::Usage);
        check(&[], None, Exit::Config);
        check(&[], Some(" ,"), Exit::Config);
        check(&["--server", "a b"], None, Exit::Config);
        check(&["--server", "a:x"], None, Exit::Config);
        check(&["--server", ""], None, Exit::Config);
    }
}
