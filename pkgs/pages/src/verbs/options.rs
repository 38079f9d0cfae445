//! The command lines of `pages status` and `pages rollback`.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, bail};
use kiln_daemon::exit::Exit;
use lexopt::{Arg, Parser, ValueExt as _};

use crate::key::SiteKey;

/// The text of `pages status --help`.
pub const STATUS_HELP: &str = "\
Shows the state of all sites, or everything about one.

Usage: pages status [NAMESPACE/NAME] [OPTIONS]

Options:
  --namespace NAMESPACE  the sites of one namespace
  --context NAME         this context of the kubeconfig instead of the current one
  --kubeconfig FILE      this file instead of KUBECONFIG, ~/.kube/config or the pod's account
  --help                 show this text

The exit status is 0 if all shown sites are ready, 1 if one is not, and higher after an error.
";

/// The text of `pages rollback --help`.
pub const ROLLBACK_HELP: &str = "\
Brings an older revision of a site into force; new commits wait until that ends.

Usage: pages rollback NAMESPACE/NAME [REVISION] [OPTIONS]
       pages rollback NAMESPACE/NAME --end [OPTIONS]

REVISION is a digest or a commit, or at least 4 characters from its start; without it, the revision
before the current one is meant. `pages status NAMESPACE/NAME` lists the revisions.

Options:
  --end                  show the newest revision again
  --context NAME         this context of the kubeconfig instead of the current one
  --kubeconfig FILE      this file instead of KUBECONFIG, ~/.kube/config or the pod's account
  --help                 show this text
";

/// The way to the API server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// A kubeconfig instead of the usual places.
    pub kubeconfig: Option<PathBuf>,
    /// A context instead of the current one.
    pub context: Option<String>,
}

/// The request for a state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The way to the API server.
    pub access: Access,
    /// One site; nothing for all.
    pub site: Option<SiteKey>,
    /// The namespace of the sites; nothing for all.
    pub namespace: Option<String>,
}

/// The request for a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollback {
    /// The way to the API server.
    pub access: Access,
    /// The site.
    pub site: SiteKey,
    /// The revision.
    pub wish: Wish,
}

/// The revision that a person wishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// The named one, or else the one before the current one.
    To(Option<String>),
    /// The newest one, from now on.
    End,
}

/// A command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed<T> {
    /// Print this text.
    Help(&'static str),
    /// Act.
    Act(T),
}

/// Parses the arguments of `pages status`. An error has [`Exit::Usage`].
pub fn status(arguments: &[OsString]) -> Result<Parsed<Status>> {
    let read = || -> Result<_> {
        let mut status = Status::default();
        let mut parser = Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("help") => return Ok(Parsed::Help(STATUS_HELP)),
                Arg::Long("namespace") => {
                    status.namespace = Some(parser.value()?.string()?);
                }
                Arg::Long("context") => status.access.context = Some(parser.value()?.string()?),
                Arg::Long("kubeconfig") => {
                    status.access.kubeconfig = Some(parser.value()?.into());
                }
                Arg::Value(text) if status.site.is_none() => {
                    status.site = Some(key(&text.string()?)?);
                }
                other => return Err(other.unexpected().into()),
            }
        }
        if status.site.is_some() && status.namespace.is_some() {
            bail!("a site has its namespace in its name; drop --namespace");
        }
        Ok(Parsed::Act(status))
    };
    read().context(Exit::Usage)
}

/// Parses the arguments of `pages rollback`. An error has [`Exit::Usage`].
pub fn rollback(arguments: &[OsString]) -> Result<Parsed<Rollback>> {
    let read = || -> Result<_> {
        let (mut access, mut words, mut end) = (Access::default(), Vec::new(), false);
        let mut parser = Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("help") => return Ok(Parsed::Help(ROLLBACK_HELP)),
                Arg::Long("end") => end = true,
                Arg::Long("context") => access.context = Some(parser.value()?.string()?),
                Arg::Long("kubeconfig") => access.kubeconfig = Some(parser.value()?.into()),
                Arg::Value(text) => words.push(text.string()?),
                other => return Err(other.unexpected().into()),
            }
        }
        let (site, wish) = match (&words[..], end) {
            ([site], true) => (site, Wish::End),
            ([site], false) => (site, Wish::To(None)),
            ([site, name], false) => (site, Wish::To(Some(name.clone()))),
            ([_, name, ..], true) => bail!("--end takes no revision; drop {name:?}"),
            ([], _) => bail!("the site is missing; pass NAMESPACE/NAME"),
            ([_, _, extra, ..], false) => bail!("unexpected argument {extra:?}"),
        };
        Ok(Parsed::Act(Rollback { access, site: key(site)?, wish }))
    };
    read().context(Exit::Usage)
}

fn key(text: &str) -> Result<SiteKey> {
    text.parse().map_err(|bad| anyhow!("{text:?}: {bad}"))
}

#[cfg(test)]
mod tests {
    use super::{Parsed, Wish, rollback, status};
    use std::ffi::OsString;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(Into::into).collect()
    }

    #[test]
    fn a_rollback_names_a_site_and_perhaps_a_revision() {
        for (text, expected) in [
            ("team/blog", Wish::To(None)),
            ("team/blog 1a2b --context other", Wish::To(Some("1a2b".to_owned()))),
            ("team/blog --end", Wish::End),
        ] {
            let Ok(Parsed::Act(found)) = rollback(&words(text)) else { panic!("{text}") };
            assert_eq!((found.site.to_string().as_str(), found.wish), ("team/blog", expected));
        }
        for (text, expected) in [
            ("", "pass NAMESPACE/NAME"),
            ("blog", "a site is named NAMESPACE/NAME"),
            ("a/b 1a2b --end", "--end takes no revision"),
            ("a/b 1a2b 3c4d", "unexpected argument \"3c4d\""),
            ("a/b --last", "invalid option '--last'"),
        ] {
            let error = format!("{:#}", rollback(&words(text)).unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_status_is_of_one_site_or_of_many() {
        let Ok(Parsed::Act(all)) = status(&words("--namespace team")) else { panic!("valid") };
        assert_eq!((all.site, all.namespace.as_deref()), (None, Some("team")));
        let Ok(Parsed::Act(one)) = status(&words("team/blog")) else { panic!("valid") };
        assert_eq!(one.site.unwrap().name(), "blog");
        assert!(status(&words("a/b --namespace a")).is_err());
        assert!(status(&words("a/b c/d")).is_err());
        assert!(matches!(status(&words("--help")), Ok(Parsed::Help(_))));
    }
}
