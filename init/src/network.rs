//! The one interface that is not a pod's business: loopback (netdevice(7)).

use std::io;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// `IFF_UP | IFF_RUNNING`: with it the kernel adds `127.0.0.1` and `::1` itself.
#[allow(clippy::cast_possible_truncation, reason = "both flags fit, ifreq wants a short")]
const UP: i16 = (libc::IFF_UP | libc::IFF_RUNNING) as i16;

/// Brings `lo` up.
pub fn loopback_up() -> Result<()> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)
        .context("make a socket")?;
    // SAFETY: ifreq is plain data, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = UP;
    // SAFETY: `request` is a valid ifreq with a terminated name and the flags set.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error()).context("bring lo up")
}
