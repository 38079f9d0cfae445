//! The way from the API server to the nodes: a proxy on a Unix socket.
//!
//! The nodes' network is inside QEMU, so the host has no route to it. The API server therefore sends
//! what it would send to a node (`logs`, `exec`, `port-forward`) through an HTTP CONNECT proxy
//! (its egress selector), which connects to a port of the host that leads to the node. It reaches
//! the nodes' own addresses only, not those of pods or services.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::qemu::segment::Segment;

/// The largest request head; the API server's has less than 200 bytes.
const HEAD_BYTES_MAX: u64 = 4096;

/// The running proxy.
#[derive(Debug)]
pub struct Egress {
    socket: PathBuf,
    stop: Arc<AtomicBool>,
}

impl Egress {
    /// Listens on this socket.
    pub fn start(socket: &Path, segment: Arc<Segment>) -> Result<Self> {
        let listener = UnixListener::bind(socket)
            .with_context(|| format!("cannot listen on {}", socket.display()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(stream), segment) = (stream, Arc::clone(&segment)) else { continue };
                // A failed tunnel concerns its request only, which gets the reason.
                thread::spawn(move || serve(stream, &segment));
            }
        });
        Ok(Self { socket: socket.to_owned(), stop })
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for the next connection.
        let _ = UnixStream::connect(&self.socket);
    }
}

/// Serves one request: a tunnel, or an error status with the reason.
fn serve(mut client: UnixStream, segment: &Segment) {
    match open(&client, segment) {
        Ok(node) => {
            let answered = client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n");
            // Either side may close at any time, which ends the tunnel.
            let _ = answered.and_then(|()| tunnel(&client, &node));
        }
        Err(error) => {
            let text = format!("{error:#}");
            let head = "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\nConnection: close";
            let length = text.len();
            let _ = write!(client, "{head}\r\nContent-Length: {length}\r\n\r\n{text}");
        }
    }
}

fn open(client: &UnixStream, segment: &Segment) -> Result<TcpStream> {
    let target = target(&head(client)?)?;
    let port = segment.forward(*target.ip(), target.port())?;
    TcpStream::connect((Ipv4Addr::LOCALHOST, port))
        .with_context(|| format!("cannot connect to {target}"))
}

/// Reads up to the empty line. The client waits for the answer, so nothing follows.
fn head(client: &UnixStream) -> Result<String> {
    let mut reader = BufReader::new(client.take(HEAD_BYTES_MAX));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let read = reader.read_line(&mut head).context("cannot read the request")?;
        if read == 0 {
            bail!("the request ends early");
        }
    }
    Ok(head)
}

/// Returns the address in a CONNECT request (RFC 9110, section 9.3.6).
fn target(head: &str) -> Result<SocketAddrV4> {
    let line = head.lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    let (Some("CONNECT"), Some(target)) = (words.next(), words.next()) else {
        bail!("`{line}` is not a CONNECT request");
    };
    target.parse().with_context(|| {
        format!("cannot connect to `{target}`: only IPv4 addresses of nodes can be reached from the host")
    })
}

/// Copies both ways until both sides have ended.
fn tunnel(client: &UnixStream, node: &TcpStream) -> io::Result<()> {
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = io::copy(&mut &*client, &mut &*node);
            let _ = node.shutdown(Shutdown::Write);
        });
        let copied = io::copy(&mut &*node, &mut &*client);
        let _ = client.shutdown(Shutdown::Write);
        copied.map(drop)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_names_its_target() {
        let head = "CONNECT 10.0.2.15:10250 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
        assert_eq!(target(head).unwrap(), "10.0.2.15:10250".parse().unwrap());
        for bad in ["", "GET / HTTP/1.1", "CONNECT host:1 HTTP/1.1", "CONNECT 10.0.2.15 HTTP/1.1"] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_head_gives_a_target_or_an_error(head in ".*") {
            let _ = target(&head);
        }
    }
}
