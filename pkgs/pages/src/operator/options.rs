//! The command line of `pages operator`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use kiln_daemon::exit::Exit;
use lexopt::{Arg, Parser, ValueExt as _};

use crate::ownership::name;
use crate::routing::choice::Wish;
use crate::routing::target::{Gateway, Target, Wildcard};

/// The address of the operations port. It is open to the pod's network, because kubelet probes it.
const OPERATIONS: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), 10270);

/// The text of `pages operator --help`.
pub const HELP: &str = "\
Decides which StaticSite has which name, and makes its routes.

Usage: pages operator --domain DOMAIN [OPTIONS]

Names:
  --domain DOMAIN        sites without a domain of their own have names below this one
  --open-domains         a domain that no list and no DNS record gives away is for the first namespace
                         that wants it
  --no-dns               do not ask for the DNS records of domains
  --reserve HOST         a host that no site may have; repeatable

Routes:
  --routes WAY           auto, httproute, ingress, traefik, file or none [default: auto]
  --namespace NAMESPACE  where the server and all routes are [default: kiln-pages]
  --service NAME         the Service of the server [default: pages-serve]
  --service-port PORT    the port of the Service [default: 80]
  --gateway NAMESPACE/NAME[/LISTENER]
                         the Gateway for routes of the Gateway API
  --ingress-class NAME   the class of Ingresses
  --issuer NAME          cert-manager's ClusterIssuer; without one there are no certificates
  --wildcard-secret NAME the Secret with a certificate for *.DOMAIN
  --scheme SCHEME        http or https, for the addresses in the status [default: https]

Operation:
  --recheck SECONDS      the time between two looks at the served APIs and at changed routes
                         [default: 300]
  --identity NAME        the name of this replica in the election [default: the host's name]
  --kubeconfig FILE      use this file instead of the pod's service account
  --operations ADDRESS   where /live, /ready and /metrics are served [default: [::]:10270]
  --help                 show this text
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
    /// The domain for pages, normalised.
    pub domain: String,
    /// True if domains without an owner are for the first namespace.
    pub is_open: bool,
    /// True if domains' DNS records count.
    pub asks_dns: bool,
    /// Hosts that no site may have, normalised.
    pub reserved: BTreeSet<String>,
    /// The wanted routes.
    pub wish: Wish,
    /// The settings of routes.
    pub target: Target,
    /// The scheme of addresses in the status.
    pub scheme: String,
    /// The time between two looks at the served APIs and at changed routes.
    pub recheck: Duration,
    /// The name of this replica.
    pub identity: Option<String>,
    /// A kubeconfig; without one, the service account of the pod is used.
    pub kubeconfig: Option<PathBuf>,
    /// The address of the operations port.
    pub operations: SocketAddr,
}

impl Default for Options {
    fn default() -> Self {
        let target = Target {
            namespace: "kiln-pages".to_owned(),
            service: "pages-serve".to_owned(),
            port: 80,
            ..Target::default()
        };
        Self {
            domain: String::new(),
            is_open: false,
            asks_dns: true,
            reserved: BTreeSet::new(),
            wish: Wish::Auto,
            target,
            scheme: "https".to_owned(),
            recheck: Duration::from_mins(5),
            identity: None,
            kubeconfig: None,
            operations: OPERATIONS,
        }
    }
}

/// Parses the command line. An error has [`Exit::Usage`].
pub fn parse(arguments: &[OsString]) -> Result<Command> {
    read(arguments).context(Exit::Usage)
}

fn read(arguments: &[OsString]) -> Result<Command> {
    let mut options = Options::default();
    let mut wildcard = None;
    let mut parser = Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            Arg::Long("domain") => options.domain = host(&mut parser, "--domain")?,
            Arg::Long("open-domains") => options.is_open = true,
            Arg::Long("no-dns") => options.asks_dns = false,
            Arg::Long("reserve") => {
                options.reserved.insert(host(&mut parser, "--reserve")?);
            }
            Arg::Long("wildcard-secret") => wildcard = Some(parser.value()?.string()?),
            Arg::Long("scheme") => options.scheme = scheme(&parser.value()?.string()?)?,
            Arg::Long("recheck") => {
                options.recheck = Duration::from_secs(parser.value()?.parse_with(positive)?);
            }
            Arg::Long("identity") => options.identity = Some(parser.value()?.string()?),
            Arg::Long("kubeconfig") => options.kubeconfig = Some(parser.value()?.into()),
            Arg::Long("operations") => options.operations = parser.value()?.parse()?,
            Arg::Long("routes") => {
                let wish: Result<Wish, String> = parser.value()?.string()?.parse();
                options.wish = wish.map_err(|error| anyhow!("--routes: {error}"))?;
            }
            Arg::Long(name) => {
                let name = name.to_owned();
                if !read_target(&name, &mut parser, &mut options.target)? {
                    return Err(Arg::Long(&name).unexpected().into());
                }
            }
            Arg::Value(value) => bail!("unexpected argument {}", value.display()),
            other @ Arg::Short(_) => return Err(other.unexpected().into()),
        }
    }
    if options.domain.is_empty() {
        bail!("the domain for pages is missing; add --domain DOMAIN");
    }
    let domain = options.domain.clone();
    options.target.wildcard = wildcard.map(|secret| Wildcard { domain, secret });
    Ok(Command::Run(Box::new(options)))
}

/// Reads an option about routes; returns false if there is no such option.
fn read_target(name: &str, parser: &mut Parser, target: &mut Target) -> Result<bool> {
    match name {
        "namespace" => target.namespace = parser.value()?.string()?,
        "service" => target.service = parser.value()?.string()?,
        "service-port" => target.port = parser.value()?.parse()?,
        "gateway" => target.gateway = Some(gateway(&parser.value()?.string()?)?),
        "ingress-class" => target.ingress_class = Some(parser.value()?.string()?),
        "issuer" => target.issuer = Some(parser.value()?.string()?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn host(parser: &mut Parser, option: &str) -> Result<String> {
    let text = parser.value()?.string()?;
    name::host(&text).map_err(|error| anyhow!("{option} {text}: {error}"))
}

fn scheme(text: &str) -> Result<String> {
    match text {
        "http" | "https" => Ok(text.to_owned()),
        _ => bail!("--scheme is http or https"),
    }
}

fn positive(text: &str) -> Result<u64> {
    text.parse().ok().filter(|seconds| *seconds > 0).context("not a number above 0")
}

fn gateway(text: &str) -> Result<Gateway> {
    let parts: Vec<&str> = text.split('/').collect();
    let (namespace, name, section) = match parts[..] {
        [namespace, name] => (namespace, name, None),
        [namespace, name, section] => (namespace, name, Some(section.to_owned())),
        _ => bail!("--gateway is NAMESPACE/NAME or NAMESPACE/NAME/LISTENER"),
    };
    Ok(Gateway { namespace: namespace.to_owned(), name: name.to_owned(), section })
}

#[cfg(test)]
mod tests {
    use super::{Command, Options, Wish, parse};
    use crate::routing::choice::Way;
    use std::ffi::OsString;

    fn run(arguments: &[&str]) -> Result<Options, String> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        match parse(&arguments) {
            Ok(Command::Run(options)) => Ok(*options),
            Ok(Command::Help) => Err("help".to_owned()),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    #[test]
    fn options_are_read() {
        let all = [
            "--domain=Pages.Test.",
            "--gateway",
            "edge/public/https",
            "--routes=httproute",
            "--wildcard-secret=wild",
            "--reserve=hooks.pages.test",
            "--recheck=2",
            "--service-port=8080",
        ];
        let options = run(&all).unwrap();
        assert_eq!(options.domain, "pages.test");
        assert_eq!(options.wish, Wish::Only(Way::HttpRoute));
        assert_eq!(options.target.gateway.unwrap().section.as_deref(), Some("https"));
        assert_eq!(options.target.wildcard.unwrap().domain, "pages.test");
        assert_eq!((options.target.port, options.recheck.as_secs()), (8080, 2));
        assert_eq!(run(&["--help"]), Err("help".to_owned()));
    }

    #[test]
    fn a_mistake_names_the_argument() {
        for (arguments, expected) in [
            (vec![], "add --domain DOMAIN"),
            (vec!["--domain", "pages"], "--domain pages: the domain is not a host name"),
            (vec!["--domain=a.b", "--routes=x"], "--routes: use auto"),
            (vec!["--domain=a.b", "--gateway=x"], "--gateway is NAMESPACE/NAME"),
            (vec!["--domain=a.b", "--recheck=0"], "not a number above 0"),
            (vec!["--domain=a.b", "--scheme=ftp"], "--scheme is http or https"),
            (vec!["--leader"], "--leader"),
            (vec!["now"], "unexpected argument now"),
        ] {
            let error = run(&arguments).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
