//! The command line of the syncer.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use kiln_daemon::exit::Exit;
use lexopt::{Arg, Parser, ValueExt as _};

use crate::guard::policy::{HostPattern, Policy};
use crate::previews::share::Share;

/// The text of `pages syncer --help`.
pub const HELP: &str = "\
Follows the git repositories of StaticSites, publishes them, and offers them to servers.

Usage: pages syncer [OPTIONS]

Options:
  --data DIR              the folder for packs and revisions [default: /var/lib/pages]
  --listen ADDRESS        webhooks, requests, table and packs [default: [::]:8080]
  --operations ADDRESS    /live, /ready, /metrics and /status [default: [::]:8081]
  --git-host HOST,…       git hosts that may be contacted, or *.DOMAIN; repeatable, at least one
  --git-plain-host HOST,… those of these hosts that may be contacted over http://; repeatable
  --git-network NETWORK   an internal network in which such a host may be; repeatable
  --git-ca FILE           certificate authorities (PEM) instead of the system's
  --no-lfs                leave objects of Git LFS out
  --git-known-hosts FILE  host keys of SSH servers, as lines of known_hosts
  --server-token FILE     the tokens of servers, one a line
  --request-token FILE    the tokens for POST /sync, and PUT and DELETE /site, one a line
  --webhook-secret FILE   a secret that holds for the webhooks of all sites
  --fetches NUMBER        the most fetches at a time [default: 8]
  --keep NUMBER           the revisions that are kept for each site [default: 5]
  --address IP            the address at which another syncer reaches this one; with it, one of several
                          syncers leads, and the others follow
  --namespace NAMESPACE   where the Lease of the election is [default: kiln-pages]
  --recheck SECONDS       the time between two looks at the served API groups [default: 300]
  --previews NUMBER       the most previews of all sites of a namespace [default: 50]
  --previews-mib NUMBER   the most MiB of their packs [default: 2048]
  --kubeconfig FILE       use this file instead of the pod's service account
  --help                  show this text

Files with tokens and secrets are read again for each request.
";

/// The requested action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Print the help.
    Help,
    /// Run until a signal.
    Run(Box<Options>),
}

/// Options of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The folder for packs and revisions.
    pub data: PathBuf,
    /// The address for webhooks, requests, table and packs.
    pub listen: SocketAddr,
    /// The address of the operations port.
    pub operations: SocketAddr,
    /// The servers that may be contacted.
    pub policy: Policy,
    /// True if objects of Git LFS are fetched.
    pub fetches_lfs: bool,
    /// Certificate authorities instead of the system's.
    pub git_ca: Option<PathBuf>,
    /// Host keys of SSH servers.
    pub git_known_hosts: Option<PathBuf>,
    /// The tokens of servers.
    pub server_token: Option<PathBuf>,
    /// The tokens for requests of people and other programs.
    pub request_token: Option<PathBuf>,
    /// A secret for the webhooks of all sites.
    pub webhook_secret: Option<PathBuf>,
    /// The most fetches at a time.
    pub fetches: usize,
    /// The revisions that are kept for each site.
    pub keep: usize,
    /// The address for other syncers; without one, this is the only syncer.
    pub address: Option<IpAddr>,
    /// The namespace of the Lease.
    pub namespace: String,
    /// The time between two looks at the served API groups.
    pub recheck: Duration,
    /// The previews of a namespace.
    pub share: Share,
    /// A kubeconfig; without one, the service account of the pod is used.
    pub kubeconfig: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        let all = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        Self {
            data: "/var/lib/pages".into(),
            listen: SocketAddr::new(all, 8080),
            operations: SocketAddr::new(all, 8081),
            policy: Policy::default(),
            fetches_lfs: true,
            git_ca: None,
            git_known_hosts: None,
            server_token: None,
            request_token: None,
            webhook_secret: None,
            fetches: 8,
            keep: 5,
            address: None,
            namespace: "kiln-pages".to_owned(),
            recheck: Duration::from_mins(5),
            share: Share::default(),
            kubeconfig: None,
        }
    }
}

impl Options {
    /// Returns the address at which another syncer reaches this one.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.address.map(|address| SocketAddr::new(address, self.listen.port()))
    }
}

/// Parses the arguments after the role. An error has [`Exit::Usage`].
pub fn parse(arguments: &[OsString]) -> Result<Command> {
    read(arguments).context(Exit::Usage)
}

fn read(arguments: &[OsString]) -> Result<Command> {
    let mut options = Options::default();
    let mut parser = Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        let Arg::Long(name) = argument else { return Err(argument.unexpected().into()) };
        if name == "help" {
            return Ok(Command::Help);
        }
        let name = name.to_owned();
        set(&mut options, &name, &mut parser).with_context(|| format!("--{name}"))?;
    }
    if options.policy.hosts.is_empty() {
        bail!("no git host may be contacted; pass --git-host HOST");
    }
    Ok(Command::Run(Box::new(options)))
}

/// Reads hosts that are separated by commas, so that one setting of a manifest can have several.
fn patterns(parser: &mut Parser) -> Result<Vec<HostPattern>> {
    let text = parser.value()?.string()?;
    let parts = text.split(',').map(str::trim);
    parts.map(|part| part.parse().map_err(|error: String| anyhow!(error))).collect()
}

fn set(options: &mut Options, name: &str, parser: &mut Parser) -> Result<()> {
    match name {
        "data" => options.data = parser.value()?.into(),
        "listen" => options.listen = parser.value()?.parse()?,
        "operations" => options.operations = parser.value()?.parse()?,
        "git-host" => options.policy.hosts.extend(patterns(parser)?),
        "git-plain-host" => options.policy.plain.extend(patterns(parser)?),
        "git-network" => options.policy.networks.push(parser.value()?.parse()?),
        "git-known-hosts" => options.git_known_hosts = Some(parser.value()?.into()),
        "git-ca" => options.git_ca = Some(parser.value()?.into()),
        "no-lfs" => options.fetches_lfs = false,
        "server-token" => options.server_token = Some(parser.value()?.into()),
        "request-token" => options.request_token = Some(parser.value()?.into()),
        "webhook-secret" => options.webhook_secret = Some(parser.value()?.into()),
        "fetches" => options.fetches = parser.value()?.parse()?,
        "keep" => options.keep = parser.value()?.parse()?,
        "address" => options.address = Some(parser.value()?.parse()?),
        "namespace" => options.namespace = parser.value()?.string()?,
        "recheck" => {
            let seconds: u64 = parser.value()?.parse()?;
            options.recheck = Duration::from_secs(seconds.max(1));
        }
        "previews" => options.share.previews = parser.value()?.parse()?,
        "previews-mib" => {
            let mib: u64 = parser.value()?.parse()?;
            options.share.bytes = mib.saturating_mul(1 << 20);
        }
        "kubeconfig" => options.kubeconfig = Some(parser.value()?.into()),
        _ => bail!("unknown option; `pages syncer --help` lists all"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Command, Options, parse};

    fn run(arguments: &[&str]) -> Result<Command, String> {
        let arguments: Vec<_> = arguments.iter().map(Into::into).collect();
        parse(&arguments).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn options_are_read_and_a_host_is_mandatory() {
        let all = ["--git-host", "*.example, git.test", "--git-network=10.0.0.0/8", "--keep", "3"];
        let Ok(Command::Run(options)) = run(&all) else { panic!("the options are valid") };
        assert_eq!((options.policy.hosts.len(), options.policy.networks.len()), (2, 1));
        assert_eq!(
            *options,
            Options { keep: 3, policy: options.policy.clone(), ..Options::default() }
        );
        assert_eq!(run(&["--help"]), Ok(Command::Help));
        assert!(run(&[]).unwrap_err().contains("pass --git-host HOST"));
    }

    #[test]
    fn a_mistake_names_the_option() {
        for (arguments, expected) in [
            (["--git-host", "a/b"], "--git-host: \"a/b\" is not a host name"),
            (["--git-network", "10.0.0.0/40"], "--git-network: "),
            (["--token", "x"], "--token: unknown option"),
        ] {
            let error = run(&arguments).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
