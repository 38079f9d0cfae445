//! An HTTP client inside a pod: it resolves the name with the pod's resolver, as any pod does, and
//! prints the page.
//!
//! The name is asked for as it is, without the search list, so it must be complete.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kiln_base::dns::{Family, Question, name_servers};

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The time limit for an answer of a name server, and for each part of an answer of a web server.
const PATIENCE: Duration = Duration::from_secs(10);

/// The largest answer in bytes.
const PAGE_BYTES_MAX: u64 = 1024 * 1024;

/// The largest message of a name server in bytes.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Prints the page at a URL with a name or an address and maybe a port; any status but 200 is an error.
pub(crate) fn run(url: &str) -> Result<()> {
    let rest = url.strip_prefix("http://").context("the URL must begin with http://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, port.parse().context("the port is no number")?),
        None => (host, 80),
    };
    let address = match name.parse() {
        Ok(address) => address,
        Err(_) => look_up(name).with_context(|| format!("cannot look up {name}"))?,
    };
    let at = SocketAddr::new(address, port);
    let page = get(at, name, path).with_context(|| format!("cannot get {url} from {at}"))?;
    println!("from {at}:\n{page}");
    Ok(())
}

fn look_up(name: &str) -> Result<IpAddr> {
    let text = std::fs::read_to_string(RESOLV_CONF)
        .with_context(|| format!("cannot read {RESOLV_CONF}"))?;
    let server = *name_servers(&text).first().context("there is no name server")?;
    let question = Question::new(1, name, Family::V4).context("the name is invalid")?;
    let socket = UdpSocket::bind(("0.0.0.0", 0)).context("cannot open a socket")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect((server, 53)).with_context(|| format!("cannot reach {server}"))?;
    socket.send(&question.message()).with_context(|| format!("cannot ask {server}"))?;
    let mut message = [0; MESSAGE_BYTES_MAX];
    let size = socket.recv(&mut message).with_context(|| format!("{server} does not answer"))?;
    let answer = question.answer(&message[..size]).context("the answer is for another question")?;
    let addresses = answer.addresses();
    addresses.first().copied().with_context(|| format!("{server} knows no address"))
}

fn get(at: SocketAddr, name: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE).context("cannot connect")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(PAGE_BYTES_MAX).read_to_end(&mut answer).context("cannot read the answer")?;
    let answer = String::from_utf8_lossy(&answer);
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("the answer has no head") };
    let status = head.lines().next().unwrap_or_default();
    ensure!(status.contains(" 200"), "the answer is `{status}`");
    Ok(body.to_owned())
}
