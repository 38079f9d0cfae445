//! Plain HTTP/1.1 (RFC 9112), one request per connection: GET for pages about the node, and CONNECT
//! (RFC 9110, section 9.3.6) for connections from the node to any address.
//!
//! The server listens on the node's addresses and obeys every client, so it belongs in test images only.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::{devices, fault, files, images, memory, nfs, node, own, sockets, volume};

/// The address of the server.
const ADDRESS: &str = "0.0.0.0:9090";

/// The time limit for connecting to another address.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// The largest head of a request in bytes.
const HEAD_BYTES_MAX: u64 = 16 * 1024;

/// Serves until SIGTERM. The program handles the signal itself, because it is PID 1 of its container,
/// where SIGTERM has no effect by default.
pub(crate) fn serve() -> Result<()> {
    let listener =
        TcpListener::bind(ADDRESS).with_context(|| format!("cannot listen on {ADDRESS}"))?;
    let termination = kiln_daemon::signal::Termination::new()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                if let Err(error) = answer(stream) {
                    tracing::warn!("{error:#}");
                }
            });
        }
    });
    while !termination.wait(None)? {}
    Ok(())
}

fn answer(stream: TcpStream) -> Result<()> {
    let (method, target) = read_head(&stream)?;
    if method == "CONNECT" {
        return relay(stream, &target);
    }
    let (status, body) = match page(&target) {
        Ok(body) => ("200 OK", body),
        Err(error) => ("500 Internal Server Error", format!("{error:#}\n")),
    };
    let mut stream = stream;
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .context("cannot send an answer")
}

/// Reads up to the empty line, one byte at a time, because the bytes after a CONNECT belong to the other
/// side.
fn read_head(stream: &TcpStream) -> Result<(String, String)> {
    let mut reader = BufReader::with_capacity(1, stream).take(HEAD_BYTES_MAX);
    let mut first = String::new();
    reader.read_line(&mut first).context("cannot read a request")?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).context("cannot read a request")? <= 2 {
            break;
        }
    }
    let mut words = first.split_ascii_whitespace();
    match (words.next(), words.next()) {
        (Some(method), Some(target)) => Ok((method.to_owned(), target.to_owned())),
        _ => bail!("not a request: {first:?}"),
    }
}

fn page(target: &str) -> Result<String> {
    match target {
        "/" => Ok("probe\n".to_owned()),
        "/addresses" => sockets::addresses(),
        "/disk-links" => devices::links(),
        "/escape" => escape(),
        "/executables" => node::list_executables(),
        "/images" => images::list(),
        "/init" => fault::figures(),
        "/loop-device" => devices::loop_device(),
        "/modules" => fault::modules(),
        "/limits" => node::list_limits(),
        "/nfs" => nfs::list(),
        "/nfs/mistakes" => nfs::mistakes(),
        "/nfs/start" => nfs::start(),
        "/nfs/stop" => nfs::stop(),
        "/nodes" => Ok(devices::nodes()),
        "/open-tun" => devices::open("net/tun"),
        "/memory" => memory::list(),
        "/processes" => node::list_processes(),
        "/sockets" => sockets::list(),
        "/time" => Ok(format!("{}\n", SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())),
        "/timeline" => node::timeline(),
        "/torn-manifest" => torn_manifest(),
        "/volume" => volume::list(),
        "/volume/keep" => volume::keep(),
        "/volume/kept" => volume::kept(),
        _ => {
            let rest = |prefix| target.strip_prefix(prefix);
            if let Some(name) = rest("/kill/") {
                node::kill(name)
            } else if let Some(path) = rest("/fault/") {
                fault::page(path)
            } else if let Some(path) = rest("/host/") {
                files::read(path)
            } else if let Some(name) = rest("/arguments/") {
                files::arguments(name)
            } else if let Some(rest) = rest("/credential/") {
                files::give(rest)
            } else {
                bail!("there is no page {target}")
            }
        }
    }
}

/// Runs the escape in a process of its own, because it cannot leave the namespaces that it enters.
fn escape() -> Result<String> {
    let output = own::command(&["escape"]).output().context("cannot start the escape")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    bail!("the escape failed: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr))
}

/// Writes half a manifest next to the complete ones, as an interrupted copy does.
fn torn_manifest() -> Result<String> {
    let path = format!("{}{}/torn.yaml", node::ROOT, kiln_contract::path::MANIFESTS);
    std::fs::write(&path, "apiVersion: v1\nkind: Pod\nmetadata:\n  name: \"to")
        .with_context(|| path.clone())?;
    Ok(format!("wrote {}/torn.yaml\n", kiln_contract::path::MANIFESTS))
}

fn relay(mut client: TcpStream, target: &str) -> Result<()> {
    let address: SocketAddr =
        target.parse().with_context(|| format!("not an address: {target}"))?;
    let Ok(server) = TcpStream::connect_timeout(&address, CONNECT_TIME_MAX) else {
        // The other side takes this status for a closed port.
        return client
            .write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            .context("cannot send an answer");
    };
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").context("cannot send an answer")?;
    let (from, to) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || copy(from, to));
    copy(server, client);
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    // The other direction must learn of the end, with or without an error.
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
