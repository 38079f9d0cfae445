//! Problems of a configuration whose individual values are all valid.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use super::{Backend, Config, Host, Kind, Listener, Problem, Route};
use crate::name::Pattern;

/// Returns all problems that concern more than one value.
pub(super) fn problems(config: &Config) -> Vec<Problem> {
    let mut problems = duplicates(config);
    for route in &config.routes {
        problems.extend(loops(config, route));
        problems.extend(idle_options(config, route));
    }
    problems
}

/// A claim of a route: a listener, a name (`None` for the default) and a protocol.
type Claim<'a> = (usize, Option<&'a Pattern>, &'a str);

/// Finds names that two routes have on one listener.
fn duplicates(config: &Config) -> Vec<Problem> {
    let mut seen: HashMap<Claim<'_>, usize> = HashMap::new();
    let mut problems = Vec::new();
    for route in &config.routes {
        let mut reported = HashSet::new();
        for claim in claims(route) {
            let Some(first) = seen.insert(claim, route.line) else { continue };
            let (_, name, _) = claim;
            if reported.insert(name) {
                let name = name.map_or("default".to_owned(), |name| format!("`{name}`"));
                let text = format!("`names`: {name} is already routed on line {first}");
                problems.push(Problem { line: route.line, text });
            }
        }
    }
    problems
}

/// Returns every combination of listener, name and protocol that a route claims.
fn claims(route: &Route) -> impl Iterator<Item = Claim<'_>> {
    let default = route.default.then_some(None);
    let names = move || route.names.iter().map(Some).chain(default);
    let protocols = move || {
        let any = route.alpn.is_empty().then_some("");
        route.alpn.iter().map(String::as_str).chain(any)
    };
    route.listeners.iter().flat_map(move |listener| {
        names().flat_map(move |name| protocols().map(move |alpn| (*listener, name, alpn)))
    })
}

/// Finds backends that are listeners of this gateway: a connection to such a backend would loop
/// forever.
fn loops(config: &Config, route: &Route) -> Vec<Problem> {
    let is_ours = |backend: &&Backend| match backend.host {
        Host::Name(ref name) if name == "localhost" || name == "localhost." => {
            let port = backend.port;
            config
                .listeners
                .iter()
                .any(|l| reaches(l, SocketAddr::new([127, 0, 0, 1].into(), port)))
        }
        Host::Name(_) => false,
        Host::Address(address) => {
            let target = SocketAddr::new(address, backend.port);
            config.listeners.iter().any(|listener| reaches(listener, target))
        }
    };
    let looped = route.backends.iter().filter(is_ours);
    let text = |backend: &Backend| format!("`backends`: {backend} is a listener of this gateway");
    looped.map(|backend| Problem { line: route.line, text: text(backend) }).collect()
}

/// True if a connection to this address certainly reaches the listener. The addresses of the
/// machine's interfaces are unknown here; the gateway checks them when it runs.
fn reaches(listener: &Listener, target: SocketAddr) -> bool {
    let ours = listener.address;
    let same = match ours.ip() {
        IpAddr::V4(any) if any.is_unspecified() => is_here(target.ip()) && target.is_ipv4(),
        IpAddr::V6(any) if any.is_unspecified() => is_here(target.ip()),
        one => one == target.ip(),
    };
    ours.port() == target.port() && ours.port() != 0 && same
}

fn is_here(address: IpAddr) -> bool {
    address.is_loopback() || address.is_unspecified()
}

/// Finds an option that has no effect on any listener of a route.
fn idle_options(config: &Config, route: &Route) -> Option<Problem> {
    let http = route.listeners.iter().any(|index| config.listeners[*index].kind == Kind::Http);
    let option = route.headers.first_key()?;
    let text = format!("`{option}`: no HTTP listener has this route; remove the key");
    (!http).then_some(Problem { line: route.line, text })
}
