//! Clients: sockets with deadlines, and whole conversations.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use crate::DEADLINE;

/// Connects to a server.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    with_deadline(&stream);
    stream
}

/// Sets the deadline for each read and write of a socket.
pub fn with_deadline(stream: &TcpStream) {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
}

/// Sends bytes and returns everything that comes back until the connection ends.
pub fn talk(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(bytes).unwrap();
    rest(stream)
}

/// Returns everything until the connection ends; a reset counts as an end.
pub fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => {
            panic!("{error}, after {} bytes", all.len())
        }
        _ => all,
    }
}

/// Returns everything until the connection ends, which must be without a reset.
pub fn rest_in_order(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    all
}

/// Waits until the other side closes or resets the connection, without sending another byte.
#[track_caller]
pub fn ended(stream: &mut TcpStream) {
    match stream.read(&mut [0]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
}

/// Reads bytes, which must be exactly these.
#[track_caller]
pub fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut found = vec![0; bytes.len()];
    stream.read_exact(&mut found).unwrap();
    assert_eq!(String::from_utf8_lossy(&found), String::from_utf8_lossy(bytes));
}

/// Reads up to and including this text, and not a byte more.
#[track_caller]
pub fn read_to(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        let mut byte = [0];
        let read = stream.read_exact(&mut byte);
        read.unwrap_or_else(|error| panic!("{error} after {}", String::from_utf8_lossy(&text)));
        text.push(byte[0]);
    }
    String::from_utf8_lossy(&text).into_owned()
}
