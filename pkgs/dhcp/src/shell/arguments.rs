//! The command line, as a manifest gives it.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use kiln_contract::path;
use kiln_daemon::exit::Exit;
use lexopt::Arg::Long;
use lexopt::ValueExt as _;

use crate::netlink::Link;

/// The list of arguments, for error messages.
const USAGE: &str = "the arguments are --interface PATTERN, --secondary, --resolver-dir DIR, \
                     --state-dir DIR and --version";

/// The command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// `--interface PATTERN`, with `*` for any characters, of a name or an Ethernet address; can be
    /// repeated. By default the client uses any Ethernet interface that belongs to a driver (not a
    /// bridge, veth, vlan …).
    pub interfaces: Vec<String>,
    /// `--secondary`: the default route and the resolver are those of another instance.
    pub secondary: bool,
    /// `--resolver-dir DIR`: the folder for `resolv.conf`.
    pub resolver: PathBuf,
    /// `--state-dir DIR`: the folder that keeps the lease for a restart of the container. The folder
    /// must be empty after a boot, because the stored times count from the boot.
    pub state: PathBuf,
}

impl Arguments {
    /// Parses the arguments after the program's name.
    pub fn parse(arguments: Vec<OsString>) -> anyhow::Result<Self> {
        let mut parsed = Self {
            interfaces: Vec::new(),
            secondary: false,
            resolver: path::RESOLVER.into(),
            state: "/run/kiln/dhcp".into(),
        };
        let read = parsed.read(&mut lexopt::Parser::from_args(arguments));
        read.map_err(|error| anyhow!("{error}; {USAGE}")).context(Exit::Usage)?;
        Ok(parsed)
    }

    fn read(&mut self, arguments: &mut lexopt::Parser) -> Result<(), lexopt::Error> {
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("interface") => self.interfaces.push(arguments.value()?.string()?),
                Long("secondary") => self.secondary = true,
                Long("resolver-dir") => self.resolver = arguments.value()?.into(),
                Long("state-dir") => self.state = arguments.value()?.into(),
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(())
    }

    /// True if this interface may get an address.
    #[must_use]
    pub fn wants(&self, link: &Link) -> bool {
        let Some(hardware) = link.hardware else { return false };
        let hardware = hardware.map(|byte| format!("{byte:02x}")).join(":");
        let named = |pattern: &String| matches(pattern, &link.name) || matches(pattern, &hardware);
        if self.interfaces.is_empty() { !link.software } else { self.interfaces.iter().any(named) }
    }
}

/// True if `name` matches `pattern`, in which each `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter_map(|at| rest.get(at..)).any(|rest| matches(after, rest))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Arguments, USAGE, matches};
    use crate::netlink::Link;
    use kiln_daemon::exit::Exit;

    fn parse(arguments: &[&str]) -> anyhow::Result<Arguments> {
        Arguments::parse(arguments.iter().map(Into::into).collect())
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, expected) in [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth*", "eth0", true),
            ("eth*", "eth", true),
            ("e*s*", "enp0s3", true),
            ("*0", "eth1", false),
            ("", "eth0", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_software_interface_is_used_only_if_it_is_named() {
        let veth = Link {
            index: 2,
            name: "veth0".into(),
            hardware: Some([2, 0, 0, 0, 0, 1]),
            flags: 0,
            software: true,
        };
        assert!(!parse(&[]).unwrap().wants(&veth));
        assert!(parse(&["--interface", "eth*", "--interface", "veth*"]).unwrap().wants(&veth));
        assert!(parse(&["--interface", "02:00:*:01"]).unwrap().wants(&veth));
        assert!(!parse(&["--interface", "02:00:*:02"]).unwrap().wants(&veth));
        let eth = Link { software: false, ..veth.clone() };
        assert!(parse(&[]).unwrap().wants(&eth));
        assert!(!parse(&[]).unwrap().wants(&Link { hardware: None, ..eth }));
    }

    #[test]
    fn options_take_their_value_from_the_next_word_or_after_an_equals_sign() {
        let expected = parse(&["--state-dir", "/a", "--interface", "eth0"]).unwrap();
        assert!(!expected.secondary && parse(&["--secondary"]).unwrap().secondary);
        assert_eq!(parse(&["--interface=eth0", "--state-dir=/a"]).unwrap(), expected);
    }

    #[test]
    fn an_invalid_command_line_is_a_usage_error_that_lists_the_arguments() {
        for (arguments, cause) in [
            (&["--interface"][..], "missing argument for option '--interface'"),
            (&["--port", "1"], "invalid option '--port'"),
            (&["eth0"], "unexpected argument \"eth0\""),
        ] {
            let error = parse(arguments).unwrap_err();
            assert_eq!(Exit::of(&error), Exit::Usage);
            assert_eq!(format!("{error:#}"), format!("wrong usage: {cause}; {USAGE}"));
        }
    }
}
