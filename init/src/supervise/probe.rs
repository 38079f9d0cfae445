//! A probe of containerd: one gRPC call on its socket, without waiting.
//!
//! Connecting is not enough, because the kernel's backlog accepts connections for a stopped
//! process. So the probe makes one unary call on an HTTP/2 connection (RFC 9113) and waits for a
//! HEADERS frame on its stream. Any answer counts, because a handler wrote it. The handler of this
//! call does not touch a disk.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// The client's connection preface, RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The method. It takes an empty message and returns containerd's version.
const METHOD: &str = "/containerd.services.version.v1.Version/Version";

/// Frame types, RFC 9113 section 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

/// Frame flags: `END_STREAM`, `END_HEADERS`.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The first stream of a client.
const STREAM: u32 = 1;

/// The largest frame that a peer may send by default (`SETTINGS_MAX_FRAME_SIZE`).
const FRAME_MAX: usize = 16 * 1024;

/// The number of bytes that are read of an answer. A real answer has about a hundred.
const ANSWER_MAX: usize = 64 * 1024;

/// Returns the bytes of one call.
#[must_use]
pub fn request() -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    frame(&mut bytes, SETTINGS, 0, 0, &[]);
    frame(&mut bytes, HEADERS, END_HEADERS, STREAM, &headers());
    // An empty gRPC message: uncompressed, length 0.
    frame(&mut bytes, DATA, END_STREAM, STREAM, &[0; 5]);
    bytes
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or_default();
    bytes.extend_from_slice(&length.to_be_bytes()[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

/// Returns the call's header fields (RFC 7541): names from the static table, literal values without
/// indexing.
fn headers() -> Vec<u8> {
    // :method POST (3), :scheme http (6)
    let mut block = vec![0x83, 0x86];
    for (name, value) in [
        (&b"\x04"[..], METHOD),            // :path
        (b"\x01", "localhost"),            // :authority
        (b"\x0f\x10", "application/grpc"), // content-type, 31
        (b"\x00\x02te", "trailers"),
    ] {
        block.extend_from_slice(name);
        // All values are shorter than 127 bytes, so the length is one byte.
        block.push(u8::try_from(value.len()).unwrap_or_default());
        block.extend_from_slice(value.as_bytes());
    }
    block
}

/// Parses an answer, in pieces of any size.
#[derive(Debug, Default)]
pub struct Answer {
    header: [u8; 9],
    have: usize,
    skip: usize,
    seen: usize,
}

impl Answer {
    /// Takes bytes. Returns true once the call is answered and false if it will never be.
    pub fn take(&mut self, mut bytes: &[u8]) -> Option<bool> {
        self.seen = self.seen.saturating_add(bytes.len());
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            let wanted = (bytes.len() - skipped).min(self.header.len() - self.have);
            let (piece, rest) = bytes[skipped..].split_at(wanted);
            self.header[self.have..self.have + wanted].copy_from_slice(piece);
            self.have += wanted;
            bytes = rest;
            if self.have == self.header.len() {
                let [a, b, c, kind, _, stream @ ..] = self.header;
                self.have = 0;
                self.skip = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
                match (kind, u32::from_be_bytes(stream)) {
                    _ if self.skip > FRAME_MAX => return Some(false),
                    (HEADERS, STREAM) => return Some(true),
                    (RST_STREAM, STREAM) | (GOAWAY, _) => return Some(false),
                    _ => {}
                }
            }
        }
        (self.seen > ANSWER_MAX).then_some(false)
    }
}

/// A call without an answer yet. Dropping it closes the connection.
#[derive(Debug)]
pub struct Probe {
    socket: OwnedFd,
    answer: Answer,
}

impl Probe {
    /// Connects and sends the call without waiting. A full backlog is an error.
    pub fn start(path: &str) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        let request = request();
        // The buffer of a new socket is much larger than the request.
        let written = rustix::net::send(&socket, &request, rustix::net::SendFlags::NOSIGNAL)?;
        if written < request.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(Self { socket, answer: Answer::default() })
    }

    /// Reads the available bytes. Returns `None` while the answer is incomplete.
    pub fn read(&mut self) -> Option<bool> {
        let mut bytes = [0; 1024];
        match rustix::io::read(&self.socket, &mut bytes) {
            Ok(0) => Some(false),
            Ok(length) => self.answer.take(&bytes[..length]),
            Err(Errno::AGAIN | Errno::INTR) => None,
            Err(_) => Some(false),
        }
    }
}

impl AsFd for Probe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    use proptest::prelude::*;

    use super::{
        Answer, FRAME_MAX, GOAWAY, HEADERS, PREFACE, Probe, RST_STREAM, SETTINGS, frame, request,
    };

    fn frames(frames: &[(u8, u32, usize)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, stream, length) in frames {
            frame(&mut bytes, *kind, 0, *stream, &vec![0; *length]);
        }
        bytes
    }

    fn check(sent: &[(u8, u32, usize)], expected: Option<bool>) {
        let bytes = frames(sent);
        for size in [1, 2, 8, 9, 10, bytes.len()] {
            let mut answer = Answer::default();
            let result = bytes.chunks(size).find_map(|chunk| answer.take(chunk));
            assert_eq!(result, expected, "{sent:?} in pieces of {size}");
        }
    }

    #[test]
    fn only_the_headers_of_the_call_are_an_answer() {
        check(&[(SETTINGS, 0, 6), (SETTINGS, 0, 0)], None);
        check(&[(SETTINGS, 0, 6), (8, 0, 4), (HEADERS, 1, 20)], Some(true));
        check(&[(SETTINGS, 0, 6), (HEADERS, 3, 20)], None);
        check(&[(SETTINGS, 0, 6), (RST_STREAM, 1, 4)], Some(false));
        check(&[(GOAWAY, 0, 8)], Some(false));
        check(&[(SETTINGS, 0, FRAME_MAX + 1)], Some(false));
    }

    #[test]
    fn an_endless_answer_is_a_failure() {
        let mut answer = Answer::default();
        let endless = frames(&[(SETTINGS, 0, FRAME_MAX)]);
        assert!((0..5).any(|_| answer.take(&endless) == Some(false)));
    }

    #[test]
    fn the_request_is_a_preface_and_whole_frames() {
        let bytes = request();
        let mut rest = bytes.strip_prefix(PREFACE).unwrap();
        let mut kinds = Vec::new();
        while !rest.is_empty() {
            let length = usize::from(rest[1]) << 8 | usize::from(rest[2]);
            kinds.push(rest[3]);
            rest = &rest[9 + length..];
        }
        assert_eq!(kinds, [4, 1, 0]);
    }

    #[test]
    fn a_peer_that_accepts_and_never_answers_has_not_answered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        assert!(Probe::start(path.to_str().unwrap()).is_err());
        let listener = UnixListener::bind(&path).unwrap();
        let mut probe = Probe::start(path.to_str().unwrap()).unwrap();
        assert_eq!(probe.read(), None);
        let (mut peer, _) = listener.accept().unwrap();
        assert_eq!(probe.read(), None);
        let mut asked = vec![0; request().len()];
        peer.read_exact(&mut asked).unwrap();
        peer.write_all(&frames(&[(SETTINGS, 0, 6), (HEADERS, 1, 8)])).unwrap();
        assert_eq!(probe.read(), Some(true));
        drop(peer);
        assert_eq!(Probe::start(path.to_str().unwrap()).unwrap().read(), None);
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_give_the_same_answer(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            cut in 0_usize..200,
        ) {
            let cut = cut.min(bytes.len());
            let whole = Answer::default().take(&bytes);
            let mut answer = Answer::default();
            let pieces = answer.take(&bytes[..cut]).or_else(|| answer.take(&bytes[cut..]));
            prop_assert_eq!(whole, pieces);
        }
    }
}
