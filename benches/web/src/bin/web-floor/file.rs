//! A file with its prepared response, and the two ways to send the response.

use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fd::OwnedFd;
use rustix::fs::sendfile;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

/// The way in which responses are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Head and body from memory.
    Write,
    /// The body from the page cache.
    Sendfile,
}

/// A file of the folder.
#[derive(Debug)]
pub struct File {
    /// The name, which is the request's path without the slash.
    pub name: Vec<u8>,
    /// Head and body.
    whole: Vec<u8>,
    head: usize,
    open: OwnedFd,
}

/// Reads all files directly in a folder.
pub fn load(folder: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let entry = entry?;
        let body = std::fs::read(entry.path())?;
        // The head is as long as a real server's.
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\
             ETag: \"0123456789abcdef0123456789abcdef\"\r\nAccept-Ranges: bytes\r\n\
             Date: Sat, 21 Nov 2026 00:00:00 GMT\r\n\r\n",
            body.len()
        );
        let whole = [head.as_bytes(), &body].concat();
        let open = std::fs::File::open(entry.path())?.into();
        files.push(File { name: entry.file_name().into_vec(), whole, head: head.len(), open });
    }
    Ok(files)
}

impl File {
    /// Continues to send from offset `sent`; returns true at the end, and false if the socket is full.
    pub fn send(&self, socket: &OwnedFd, sent: &mut usize, mode: Mode) -> rustix::io::Result<bool> {
        while *sent < self.whole.len() {
            let result = match mode {
                Mode::Write => send(socket, &self.whole[*sent..], SendFlags::NOSIGNAL),
                Mode::Sendfile if *sent < self.head => {
                    let flags = SendFlags::NOSIGNAL | SendFlags::MORE;
                    send(socket, &self.whole[*sent..self.head], flags)
                }
                Mode::Sendfile => {
                    let mut offset = (*sent - self.head) as u64;
                    sendfile(socket, &self.open, Some(&mut offset), self.whole.len() - *sent)
                }
            };
            match result {
                Ok(count) => *sent += count,
                Err(Errno::AGAIN) => return Ok(false),
                Err(errno) => return Err(errno),
            }
        }
        Ok(true)
    }
}
