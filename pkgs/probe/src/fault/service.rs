//! An impostor as PID 1 sees it: the folder that it works in, and its messages.

use std::os::unix::net::UnixDatagram;

use anyhow::{Context, Result};
use kiln_contract::path;

/// The folder on the host for the copies of this program, their roles and what they count.
pub(super) const FOLDER: &str = "/run/impostor";

/// Sends one datagram to PID 1's notify socket.
pub(super) fn notify(message: &[u8]) -> Result<()> {
    let socket = UnixDatagram::unbound().context("cannot make a socket")?;
    let sent = socket.send_to(message, path::NOTIFY_SOCKET);
    sent.with_context(|| format!("cannot send to {}", path::NOTIFY_SOCKET)).map(drop)
}
