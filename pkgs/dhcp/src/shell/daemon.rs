//! The poll loop, which handles changes of interfaces, packets and timeouts.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context as _;
use kiln_base::time::timespec;
use kiln_daemon::health::{Health, State};
use kiln_daemon::signal::Termination;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use super::arguments::Arguments;
use super::kernel::Kernel;
use super::packet::PacketSocket;
use super::{apply, now, store};
use crate::Time;
use crate::client::{Action, Client, Identity};
use crate::lease::Lease;
use crate::message::{CLIENT_PORT, Message, SERVER_PORT};
use crate::netlink::{Event, Link, link_up};

/// The state is reported at least this often.
const HEARTBEAT: Duration = Duration::from_mins(1);
/// A loop that has not run for this long is considered hung.
const VALIDITY: Duration = Duration::from_secs(150);

/// Leases an address until a termination signal arrives.
///
/// The address stays after the signal, because the node's other pods need it while they stop. The
/// kernel deletes the address when the lease expires.
pub fn run(arguments: Arguments, termination: Termination, health: Health) -> anyhow::Result<()> {
    let kernel = Kernel::open()?;
    let mut host = Host { arguments, kernel, termination, health, started: now() };
    while let Some(link) = host.choose()? {
        tracing::info!(interface = link.name, millis = host.millis(), "link is up");
        match Interface::new(&mut host, link)?.serve()? {
            End::Terminated => break,
            End::LinkGone => tracing::warn!("the interface disappeared"),
        }
    }
    tracing::info!("stopping; the address stays");
    Ok(())
}

/// The state that does not depend on the interface.
struct Host {
    arguments: Arguments,
    kernel: Kernel,
    termination: Termination,
    health: Health,
    started: Time,
}

/// The reason why serving an interface ended.
enum End {
    Terminated,
    LinkGone,
}

impl Host {
    /// Brings the wanted interfaces up and waits for the first link that works, because drivers may load
    /// while this program starts. Returns `None` if a termination signal arrives first.
    fn choose(&mut self) -> anyhow::Result<Option<Link>> {
        loop {
            let links = self.kernel.links()?;
            let wanted = || links.iter().filter(|link| self.arguments.wants(link));
            for link in wanted().filter(|link| !link.is_up()) {
                if let Err(error) = self.kernel.change(&link_up(link.index)) {
                    tracing::warn!(
                        interface = link.name,
                        "cannot bring the interface up: {error:#}"
                    );
                }
            }
            if let Some(link) = wanted().find(|link| link.works()) {
                return Ok(Some(link.clone()));
            }
            self.health.state(State::Alive, VALIDITY);
            if self.wait(None, HEARTBEAT)? {
                return Ok(None);
            }
            // The next list includes the news that is dropped here.
            let _ = self.kernel.news();
        }
    }

    /// Sleeps until an event arrives or `time` has passed; returns true for a termination signal.
    fn wait(&self, packets: Option<&PacketSocket>, time: Duration) -> anyhow::Result<bool> {
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.termination.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.kernel.as_fd(), PollFlags::IN),
        ];
        fds.extend(packets.map(|socket| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN)));
        match poll(&mut fds, Some(&timespec(time.min(HEARTBEAT)))) {
            Ok(_) | Err(Errno::INTR) => Ok(!fds[0].revents().is_empty()),
            Err(error) => Err(error).context("cannot poll"),
        }
    }

    /// Returns the milliseconds since the program started, for the log.
    fn millis(&self) -> u64 {
        u64::try_from(now().saturating_sub(self.started).as_millis()).unwrap_or(u64::MAX)
    }
}

/// The chosen interface and its client.
struct Interface<'a> {
    host: &'a mut Host,
    link: Link,
    hardware: [u8; 6],
    client: Client,
    /// Open while a reply can arrive.
    packets: Option<PacketSocket>,
    /// Sends to the lease's server. While it is open, the kernel does not refuse the server's replies
    /// as packets to a closed port.
    unicast: Option<UdpSocket>,
}

impl<'a> Interface<'a> {
    fn new(host: &'a mut Host, link: Link) -> anyhow::Result<Self> {
        let hardware = link.hardware.context("the interface has no Ethernet address")?;
        let mut seed = [0; 8];
        getrandom(&mut seed, GetRandomFlags::empty()).context("cannot get random bytes")?;
        let earlier = store::load(&host.arguments.state, &link, now());
        if let Some(lease) = &earlier {
            tracing::info!(address = %lease.address, "confirming the lease of an earlier run");
        }
        let identity = Identity { hardware, host_name: host_name() };
        let client = Client::new(identity, u64::from_ne_bytes(seed), now(), earlier);
        Ok(Self { host, link, hardware, client, packets: None, unicast: None })
    }

    fn serve(mut self) -> anyhow::Result<End> {
        loop {
            self.act()?;
            let time = self.client.poll_at().saturating_sub(now());
            if self.host.wait(self.packets.as_ref(), time)? {
                return Ok(End::Terminated);
            }
            if !self.hear_news()? {
                return Ok(End::LinkGone);
            }
            self.receive()?;
        }
    }

    /// Performs the actions that are due now.
    fn act(&mut self) -> anyhow::Result<()> {
        for action in self.client.poll(now()) {
            self.perform(action, None)?;
        }
        let state = if self.client.lease().is_some() { State::Ready } else { State::Alive };
        self.host.health.state(state, VALIDITY);
        if !self.client.listens() {
            // Closing a packet socket waits for all processors (some 10 ms), so it comes last.
            (self.packets, self.unicast) = (None, None);
        }
        Ok(())
    }

    /// Handles news about the link; returns false if the link disappeared.
    fn hear_news(&mut self) -> anyhow::Result<bool> {
        let events = match self.host.kernel.news() {
            Err(Errno::NOBUFS) => self.whole_list()?,
            result => result.context("cannot read news about interfaces")?,
        };
        for event in events {
            match event {
                Event::Gone(index) if index == self.link.index => return Ok(false),
                Event::Link(link) if link.index == self.link.index => self.link_changed(link),
                _ => (),
            }
        }
        Ok(true)
    }

    /// Lists all interfaces, to make up for lost news.
    fn whole_list(&self) -> anyhow::Result<Vec<Event>> {
        let links = self.host.kernel.links()?;
        let gone = links.iter().all(|link| link.index != self.link.index);
        let gone = gone.then_some(Event::Gone(self.link.index));
        Ok(links.into_iter().map(Event::Link).chain(gone).collect())
    }

    fn link_changed(&mut self, link: Link) {
        match (self.link.works(), link.works()) {
            (true, false) => tracing::warn!(interface = link.name, "link is down"),
            (false, true) => {
                tracing::info!(interface = link.name, "link is up again");
                self.client.link_returned(now());
            }
            _ if link.is_running() && !self.link.is_running() => self.client.link_settled(now()),
            _ => (),
        }
        self.link = link;
    }

    fn receive(&mut self) -> anyhow::Result<()> {
        while let Some(socket) = &self.packets {
            let message = match socket.receive() {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!("cannot receive packets: {error}");
                    break;
                }
            };
            if let Some(action) = self.client.handle(now(), &message) {
                self.perform(action, Some(&message))?;
            }
            if !self.client.listens() {
                break; // the rest of the queue belongs to no open request
            }
        }
        Ok(())
    }

    /// Carries out an action; `cause` is the message that led to it.
    fn perform(&mut self, action: Action, cause: Option<&Message>) -> anyhow::Result<()> {
        match action {
            Action::Broadcast(message) => {
                tracing::debug!(kind = ?message.kind, seconds = message.seconds, "broadcasting");
                let sent = self.packets().and_then(|socket| Ok(socket.broadcast(&message)?));
                log(sent.context("cannot broadcast a message"));
            }
            Action::Unicast(server, message) => {
                tracing::debug!(kind = ?message.kind, %server, "sending to the server");
                let sent = self.packets().and(Ok(()));
                log(sent.and_then(|()| self.send_to(server, &message)));
            }
            Action::Configure { lease, before } => {
                self.configure(&lease, before.as_deref(), cause)?;
            }
            Action::Deconfigure(lease) => {
                tracing::warn!(address = %lease.address, "the lease ended");
                log(store::forget(&self.host.arguments.state, &self.link));
                apply::deconfigure(&self.host.kernel, self.link.index, &self.wanted(&lease));
            }
        }
        Ok(())
    }

    fn packets(&mut self) -> anyhow::Result<&PacketSocket> {
        if self.packets.is_none() {
            self.packets =
                Some(PacketSocket::open(self.link.index).context("cannot open a packet socket")?);
        }
        self.packets.as_ref().context("the packet socket is closed")
    }

    fn send_to(&mut self, server: Ipv4Addr, message: &Message) -> anyhow::Result<()> {
        let context = || format!("cannot send from {}:{CLIENT_PORT} to {server}", message.client);
        let socket = match self.unicast.take() {
            Some(socket) => socket,
            None => UdpSocket::bind((message.client, CLIENT_PORT)).with_context(context)?,
        };
        let sent = socket.send_to(&message.build(), (server, SERVER_PORT));
        self.unicast = Some(socket);
        sent.map(|_| ()).with_context(context)
    }

    /// The part of a lease that the machine is configured with.
    fn wanted(&self, lease: &Lease) -> Lease {
        if self.host.arguments.secondary { lease.without_default_route() } else { lease.clone() }
    }

    fn configure(
        &mut self,
        lease: &Lease,
        before: Option<&Lease>,
        cause: Option<&Message>,
    ) -> anyhow::Result<()> {
        let (lease, before) = (&self.wanted(lease), before.map(|before| self.wanted(before)));
        let before = before.as_ref();
        apply::configure(&self.host.kernel, self.link.index, lease, before, now())?;
        if !self.host.arguments.secondary {
            apply::write_resolver(&self.host.arguments.resolver, lease)?;
        }
        if cause.is_some() {
            report(&self.link, lease, before, self.host.millis());
        } else {
            tracing::warn!(address = %lease.address, "no reply; continuing with the lease");
        }
        if before.is_none_or(|before| before.address != lease.address) {
            let hardware = self.hardware;
            let sent =
                self.packets().and_then(|socket| Ok(socket.announce(hardware, lease.address)?));
            log(sent.context("cannot announce the address"));
        }
        if let Some(ack) = cause {
            log(store::save(&self.host.arguments.state, &self.link, lease.since, ack));
        }
        Ok(())
    }
}

/// Logs a lease in one line; `millis` is the time since the program started.
fn report(link: &Link, lease: &Lease, before: Option<&Lease>, millis: u64) {
    let text = match before {
        Some(before) if before.address == lease.address => "lease extended",
        _ => "bound",
    };
    tracing::info!(
        interface = link.name,
        address = %format_args!("{}/{}", lease.address, lease.prefix),
        router = %lease.router().unwrap_or(Ipv4Addr::UNSPECIFIED),
        server = %lease.server,
        seconds = lease.duration().map_or(u64::MAX, |time| time.as_secs()),
        millis,
        "{text}"
    );
}

fn log(result: anyhow::Result<()>) {
    if let Err(error) = result {
        tracing::warn!("{error:#}");
    }
}

/// Returns the node's name if it is valid and not `localhost`.
fn host_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_str().ok()?.to_owned();
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let sound = (1..=63).contains(&name.len()) && name.bytes().all(letters);
    (sound && name != "localhost").then_some(name)
}
