//! Names to addresses, for the applets: `/etc/hosts`, then the name servers of `/etc/resolv.conf`.
//!
//! The C library's resolver loads shared objects, which a static program cannot do.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kiln_base::dns::{Family, Question, name_servers};
use rustix::io::Errno;

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";
const DNS_PORT: u16 = 53;

/// The time for one name server to answer one question, and the number of attempts, as in the C
/// library (resolv.conf(5)).
const ANSWER: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 2;

/// The most search domains that are tried.
const DOMAINS_MAX: usize = 6;

/// Larger than every answer over UDP ([`Question::message_with_edns`]).
const PACKET_BYTES: usize = 4096;

/// Returns the addresses of a name, those first that the node has a route to.
pub fn addresses(name: &str) -> Result<Vec<IpAddr>> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let mut found = of_hosts(&fs::read_to_string(HOSTS).unwrap_or_default(), name);
    if found.is_empty() {
        found = look_up(name)?;
    }
    found.sort_by_key(|address| !has_route(*address));
    Ok(found)
}

/// Returns the addresses of a name in the text of `/etc/hosts`.
fn of_hosts(hosts: &str, name: &str) -> Vec<IpAddr> {
    let of_line = |line: &str| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    };
    hosts.lines().filter_map(of_line).collect()
}

/// Returns the names to ask for: a name without a dot gets the search domains first.
fn candidates(resolv_conf: &str, name: &str) -> Vec<String> {
    let search = resolv_conf.lines().rev().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        matches!(words.next(), Some("search" | "domain")).then_some(words)
    });
    let domains = search.into_iter().flatten().take(DOMAINS_MAX);
    let mut names: Vec<String> = domains.map(|domain| format!("{name}.{domain}")).collect();
    match (name.ends_with('.'), name.contains('.')) {
        (true, _) => vec![name.to_owned()],
        (false, true) => std::iter::once(name.to_owned()).chain(names).collect(),
        (false, false) => {
            names.push(name.to_owned());
            names
        }
    }
}

fn look_up(name: &str) -> Result<Vec<IpAddr>> {
    let text = fs::read_to_string(RESOLV_CONF).unwrap_or_default();
    let servers = name_servers(&text);
    if servers.is_empty() {
        bail!("{RESOLV_CONF} has no name server");
    }
    for candidate in candidates(&text, name) {
        let found: Vec<IpAddr> = [Family::V6, Family::V4]
            .into_iter()
            .filter_map(|family| ask(&servers, &candidate, family))
            .flatten()
            .collect();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    bail!("Name or service not known")
}

/// Asks one name server after the other. Returns `None` if none answers.
fn ask(servers: &[IpAddr], name: &str, family: Family) -> Option<Vec<IpAddr>> {
    for _ in 0..ATTEMPTS {
        for server in servers {
            if let Ok(found) = ask_one(*server, name, family) {
                return Some(found);
            }
        }
    }
    None
}

fn ask_one(server: IpAddr, name: &str, family: Family) -> Result<Vec<IpAddr>> {
    let mut id = [0; 2];
    File::open("/dev/urandom")?.read_exact(&mut id)?;
    let question = Question::new(u16::from_ne_bytes(id), name, family).context("not a DNS name")?;
    let socket = bind_any(server)?;
    socket.connect(SocketAddr::new(server, DNS_PORT))?;
    socket.send(&question.message_with_edns())?;
    let limit = Instant::now() + ANSWER;
    let mut packet = [0; PACKET_BYTES];
    loop {
        let left = limit.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Errno::TIMEDOUT.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut packet)?;
        // Other packets are late answers, or forged.
        if let Some(answer) = question.answer(&packet[..length]) {
            return Ok(answer.addresses());
        }
    }
}

/// True if the node has a route to an address. Connecting a UDP socket sends nothing.
fn has_route(address: IpAddr) -> bool {
    bind_any(address).is_ok_and(|socket| socket.connect(SocketAddr::new(address, DNS_PORT)).is_ok())
}

/// Returns a socket for an address of this family.
///
/// It is bound to a `SocketAddr`: a text would be resolved, and the C library's resolver with its
/// loader of shared libraries adds half a megabyte to a static binary.
fn bind_any(other: IpAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match other {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind(SocketAddr::new(any, 0))
}

#[cfg(test)]
mod tests {
    use super::{addresses, candidates, of_hosts};

    #[test]
    fn an_address_needs_no_look_up() {
        for text in ["192.0.2.1", "2001:db8::1"] {
            assert_eq!(addresses(text).unwrap(), [text.parse::<std::net::IpAddr>().unwrap()]);
        }
    }

    #[test]
    fn hosts_have_several_names_and_comments() {
        let hosts = "# nfs 192.0.2.9\n192.0.2.1 files NFS # nfs2\n::1 nfs\nbad nfs\n";
        let of = |name| of_hosts(hosts, name).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(of("nfs"), ["192.0.2.1", "::1"]);
        assert_eq!(of("nfs2"), Vec::<String>::new());
    }

    #[test]
    fn a_short_name_gets_the_search_domains_first() {
        let conf = "search old.test\nnameserver 192.0.2.1\nsearch a.test b.test\n";
        assert_eq!(candidates(conf, "nfs"), ["nfs.a.test", "nfs.b.test", "nfs"]);
        assert_eq!(candidates(conf, "nfs.x"), ["nfs.x", "nfs.x.a.test", "nfs.x.b.test"]);
        assert_eq!(candidates(conf, "nfs."), ["nfs."]);
        assert_eq!(candidates("", "nfs"), ["nfs"]);
    }
}
