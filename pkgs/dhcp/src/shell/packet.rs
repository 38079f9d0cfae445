//! A socket below the IP stack (packet(7)), for the time in which replies can arrive.
//!
//! The socket is open only then, because on a busy interface the kernel offers it every packet of the
//! node. A kernel filter passes only UDP packets to port 68, so other traffic never wakes the program.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr;

use rustix::io::Errno;
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, sendto, socket_with,
};

use crate::frame::{Datagram, announcement};
use crate::message::{CLIENT_PORT, Message, SERVER_PORT};

/// Ethernet's MTU; a longer packet is cut off and then fails its length check.
const PACKET_BYTES_MAX: usize = 1500;
const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
/// Ethernet's broadcast address, as in `struct sockaddr_ll`.
const BROADCAST: [u8; 8] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0];

#[expect(clippy::cast_possible_truncation, reason = "numbers and sizes below 100")]
mod c {
    //! Numbers in the widths of the C structures.
    pub(super) const FAMILY: u16 = libc::AF_PACKET as u16;
    pub(super) const ADDRESS_SIZE: u32 = size_of::<libc::sockaddr_ll>() as u32;
    pub(super) const PROGRAM_SIZE: u32 = size_of::<libc::sock_fprog>() as u32;
    pub(super) const FILTER_LENGTH: u16 = super::FILTER.len() as u16;
}

/// Classic BPF (`{code, jt, jf, k}`) that passes unfragmented UDP packets to port 68; offsets start at
/// the IP header. The kernel's `Documentation/networking/filter.rst` explains the codes.
const FILTER: [libc::sock_filter; 9] = [
    instruction(0x30, 0, 0, 9),      // A = protocol
    instruction(0x15, 0, 6, 17),     // UDP?
    instruction(0x28, 0, 0, 6),      // A = flags and fragment offset
    instruction(0x45, 4, 0, 0x1fff), // a later fragment?
    instruction(0xb1, 0, 0, 0),      // X = length of the IP header
    instruction(0x48, 0, 0, 2),      // A = destination port
    instruction(0x15, 0, 1, CLIENT_PORT as u32),
    instruction(0x06, 0, 0, 0xffff), // pass the whole packet
    instruction(0x06, 0, 0, 0),      // drop the packet
];

const fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// A socket that broadcasts on a link and receives packets for port 68.
#[derive(Debug)]
pub(super) struct PacketSocket {
    socket: OwnedFd,
    index: u32,
}

impl PacketSocket {
    pub(super) fn open(index: u32) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // With protocol 0 no packet arrives before the filter is attached and the interface is chosen.
        let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, None)?;
        attach_filter(&socket)?;
        bind(&socket, &LinkAddress { index, protocol: IPV4 })?;
        Ok(Self { socket, index })
    }

    /// Broadcasts a message from its own client address (0.0.0.0 without a lease).
    pub(super) fn broadcast(&self, message: &Message) -> io::Result<()> {
        let payload = message.build();
        let datagram = Datagram {
            source: SocketAddrV4::new(message.client, CLIENT_PORT),
            destination: SocketAddrV4::new(Ipv4Addr::BROADCAST, SERVER_PORT),
            payload: &payload,
        };
        let packet = datagram.build().ok_or(Errno::MSGSIZE)?;
        self.send(IPV4, &packet)
    }

    /// Announces the address of this interface to the neighbours.
    pub(super) fn announce(&self, hardware: [u8; 6], address: Ipv4Addr) -> io::Result<()> {
        self.send(ARP, &announcement(hardware, address))
    }

    fn send(&self, protocol: u16, packet: &[u8]) -> io::Result<()> {
        let address = LinkAddress { index: self.index, protocol };
        sendto(&self.socket, packet, SendFlags::empty(), &address)?;
        Ok(())
    }

    /// Returns the next message, or `None` if no more have arrived.
    pub(super) fn receive(&self) -> io::Result<Option<Message>> {
        let mut buffer = [0; PACKET_BYTES_MAX];
        loop {
            let length = match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((length, _)) => length,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            match read(&buffer[..length]) {
                Ok(message) => return Ok(Some(message)),
                Err(error) => tracing::debug!("ignored a packet: {error:#}"),
            }
        }
    }
}

fn read(packet: &[u8]) -> anyhow::Result<Message> {
    Ok(Message::parse(Datagram::parse(packet)?.payload)?)
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn attach_filter(socket: &OwnedFd) -> io::Result<()> {
    let mut filter = FILTER;
    let program = libc::sock_fprog { len: c::FILTER_LENGTH, filter: filter.as_mut_ptr() };
    // SAFETY: the option's value is a `sock_fprog` that points to `len` instructions; both live
    // until the call returns, and the kernel copies them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            ptr::from_ref(&program).cast(),
            c::PROGRAM_SIZE,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The broadcast address of an interface for one link-layer protocol (`struct sockaddr_ll`).
struct LinkAddress {
    index: u32,
    protocol: u16,
}

// SAFETY: `f` gets a pointer to a whole `sockaddr_ll` that lives during the call, and its size.
unsafe impl SocketAddrArg for LinkAddress {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        let address = libc::sockaddr_ll {
            sll_family: c::FAMILY,
            sll_protocol: self.protocol.to_be(),
            sll_ifindex: self.index.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 6,
            sll_addr: BROADCAST,
        };
        f(ptr::from_ref(&address).cast(), c::ADDRESS_SIZE)
    }
}
