//! The first word of the command line: the role, or a verb for people.

use std::ffi::OsString;

use anyhow::{Context as _, Result, bail};
use kiln_daemon::exit::Exit;

/// The text of `pages --help`.
pub const HELP: &str = "\
Websites from git for a cluster.

Usage: pages ROLE [OPTIONS]
       pages status [NAMESPACE/NAME] [OPTIONS]
       pages rollback NAMESPACE/NAME [REVISION] [OPTIONS]

Roles:
  operator   decides which StaticSite has which name, and makes its routes
  syncer     follows git, and publishes
  serve      follows the syncer, and answers visitors

For people with a kubeconfig:
  status     shows the state of all sites, or everything about one
  rollback   brings an older revision of a site into force

`pages ROLE --help` lists the options of a role.
";

/// One of the program's roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Decides about names and routes.
    Operator,
    /// Follows git, and publishes.
    Syncer,
    /// Answers visitors.
    Serve,
}

/// The requested action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Print the help.
    Help,
    /// Act in a role, with its own arguments.
    Act(Role, Vec<OsString>),
    /// Show the state of sites.
    Status(Vec<OsString>),
    /// Bring an older revision into force.
    Rollback(Vec<OsString>),
}

/// Parses the first word. An error has [`Exit::Usage`].
pub fn parse(arguments: &[OsString]) -> Result<Command> {
    read(arguments).context(Exit::Usage)
}

fn read(arguments: &[OsString]) -> Result<Command> {
    let Some((first, rest)) = arguments.split_first() else {
        bail!("the role is missing; use operator, syncer or serve");
    };
    let role = match first.to_str() {
        Some("--help" | "-h") => return Ok(Command::Help),
        Some("operator") => Role::Operator,
        Some("syncer") => Role::Syncer,
        Some("serve") => Role::Serve,
        Some("status") => return Ok(Command::Status(rest.to_vec())),
        Some("rollback") => return Ok(Command::Rollback(rest.to_vec())),
        _ => bail!("unknown role {}; `pages --help` lists all", first.display()),
    };
    Ok(Command::Act(role, rest.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::{Command, Role, parse};
    use std::ffi::OsString;

    fn check(arguments: &[&str], expected: Result<Command, &str>) {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        match (parse(&arguments), expected) {
            (Ok(command), Ok(expected)) => assert_eq!(command, expected),
            (Err(error), Err(expected)) => {
                let text = format!("{error:#}");
                assert!(text.contains(expected), "{text}");
            }
            (result, expected) => panic!("{result:?} is not {expected:?}"),
        }
    }

    #[test]
    fn the_first_word_is_the_role() {
        check(&["operator", "--help"], Ok(Command::Act(Role::Operator, vec!["--help".into()])));
        check(&["operator"], Ok(Command::Act(Role::Operator, vec![])));
        check(&["serve"], Ok(Command::Act(Role::Serve, vec![])));
        check(&["status", "a/b"], Ok(Command::Status(vec!["a/b".into()])));
        check(&["--help"], Ok(Command::Help));
        check(&[], Err("the role is missing"));
        check(&["server"], Err("unknown role server"));
    }
}
