//! The command line, as a manifest gives it.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use kiln_contract::path;
use kiln_daemon::exit::Exit;

use crate::netlink::Link;

/// What the command line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// `--interface PATTERN`, with `*` for any characters; may be repeated. None given: every
    /// Ethernet interface that a driver made (no bridge, veth, vlan …).
    pub interfaces: Vec<String>,
    /// `--resolver-dir DIR`: where `resolv.conf` is written.
    pub resolver: PathBuf,
    /// `--state-dir DIR`: where the lease is kept for a restart of the container. Must be empty
    /// after a boot, because the kept times count from it.
    pub state: PathBuf,
}

impl Arguments {
    /// Reads the arguments after the program's name.
    pub fn parse(arguments: Vec<OsString>) -> anyhow::Result<Self> {
        let mut parsed = Self {
            interfaces: Vec::new(),
            resolver: path::RESOLVER.into(),
            state: "/run/kiln/dhcp".into(),
        };
        let mut arguments = arguments.into_iter();
        while let Some(name) = arguments.next() {
            let mut value = || {
                let error = || anyhow!("{} needs a value", name.display());
                arguments.next().ok_or_else(error).context(Exit::Usage)
            };
            match name.to_str() {
                Some("--interface") => parsed.interfaces.push(text(value()?)?),
                Some("--resolver-dir") => parsed.resolver = value()?.into(),
                Some("--state-dir") => parsed.state = value()?.into(),
                _ => {
                    return Err(anyhow!(
                        "unknown argument {:?}; there are --interface PATTERN, --resolver-dir DIR, \
                         --state-dir DIR, health, ready, --version",
                        name.display()
                    ))
                    .context(Exit::Usage);
                }
            }
        }
        Ok(parsed)
    }

    /// Whether this interface may get an address from us.
    #[must_use]
    pub fn wants(&self, link: &Link) -> bool {
        let named = || self.interfaces.iter().any(|pattern| matches(pattern, &link.name));
        link.hardware.is_some() && if self.interfaces.is_empty() { !link.software } else { named() }
    }
}

fn text(value: OsString) -> anyhow::Result<String> {
    let error = |value: OsString| anyhow!("{:?} is not UTF-8", value.display());
    value.into_string().map_err(error).context(Exit::Usage)
}

/// Whether `name` is `pattern` with each `*` standing for any characters.
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
    use super::{Arguments, matches};
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
    fn a_software_interface_is_taken_only_when_it_is_named() {
        let veth = Link {
            index: 2,
            name: "veth0".into(),
            hardware: Some([2, 0, 0, 0, 0, 1]),
            flags: 0,
            software: true,
        };
        assert!(!parse(&[]).unwrap().wants(&veth));
        assert!(parse(&["--interface", "eth*", "--interface", "veth*"]).unwrap().wants(&veth));
        let eth = Link { software: false, ..veth.clone() };
        assert!(parse(&[]).unwrap().wants(&eth));
        assert!(!parse(&[]).unwrap().wants(&Link { hardware: None, ..eth }));
    }

    #[test]
    fn a_wrong_command_line_is_a_usage_error() {
        for arguments in [&["--interface"][..], &["--port", "1"], &["eth0"]] {
            assert_eq!(Exit::of(&parse(arguments).unwrap_err()), Exit::Usage);
        }
    }
}
