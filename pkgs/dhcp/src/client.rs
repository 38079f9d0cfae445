//! The client's state machine (RFC 2131, 4.4), without I/O and without a clock.
//!
//! ```text
//!              ┌─────────────── timeout, NAK ───────────────┐
//!              ▼                                              │
//!   start → Selecting ── OFFER ──→ Requesting ── ACK ──→ Bound ── T1 ──→ Renewing ── T2 ──→ Rebinding
//!   start → Rebooting (a lease of an earlier run) ──→ Bound ◄──────── ACK ◄────────────────┘
//! ```
//!
//! The caller passes in packets ([`Client::handle`]) and the time ([`Client::poll`], no later than
//! [`Client::poll_at`]), and carries out the returned [`Action`]s.
//!
//! Three deviations from the RFC are intended. The first DISCOVER is sent at once and not after a
//! random 1 to 10 s (4.4.1), because a slower boot costs more than the load peak after a power cut,
//! which that delay avoids. The first message is repeated after 1 s instead of 4 s. The address is
//! used without an ARP probe, and announced afterwards.

mod state;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::Time;
use crate::lease::{Lease, LeaseError, is_reply};
use crate::message::{Kind, Message, Options, option};
use crate::random::Random;
use state::{Bound, Extending, PAUSE_MAX, Rebooting, Requesting, Retry, Selecting, State};

/// Unanswered REQUESTs after which an offer is abandoned: 1 + 2 + 4 + 8 s.
const REQUESTS_MAX: u32 = 4;
/// Unanswered REQUESTs after which a restarted client continues with its earlier lease.
const REBOOT_REQUESTS_MAX: u32 = 3;
/// Ethernet's MTU without IP and UDP headers, in bytes.
const MESSAGE_BYTES_MAX: u16 = 1472;

/// The requested options; 121 comes before 3 (RFC 3442).
const WANTED: [u8; 11] = [
    option::MASK,
    option::ROUTES,
    option::ROUTER,
    option::NAME_SERVER,
    option::SEARCH,
    option::DOMAIN,
    option::MTU,
    option::LEASE_TIME,
    option::SERVER,
    option::RENEWAL_TIME,
    option::REBINDING_TIME,
];

/// The identity that the client presents to servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The interface's Ethernet address, which is also the client identifier.
    pub hardware: [u8; 6],
    /// The node's name, for servers that put it into DNS. A server never sets the node's name.
    pub host_name: Option<String>,
}

/// An action that the caller carries out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send the message to all servers on the link, from the client address in the message.
    Broadcast(Message),
    /// Send the message to this server through the IP stack.
    Unicast(Ipv4Addr, Message),
    /// Configure the interface with a lease.
    Configure {
        /// The lease to use from now on.
        lease: Box<Lease>,
        /// The lease in use until now. Often the two differ only in their times.
        before: Option<Box<Lease>>,
    },
    /// Remove this lease's configuration, because the lease expired or the server refused it.
    Deconfigure(Box<Lease>),
}

/// The client of one interface.
#[derive(Debug)]
pub struct Client {
    identity: Identity,
    random: Random,
    state: State,
    /// NAKs since the last lease; each NAK doubles the pause before the next attempt.
    refusals: u32,
}

impl Client {
    /// Starts at `now`: with the lease of an earlier run if it is still valid (INIT-REBOOT), otherwise
    /// without a lease.
    #[must_use]
    pub fn new(identity: Identity, seed: u64, now: Time, earlier: Option<Lease>) -> Self {
        let mut random = Random::new(seed);
        let state = match earlier.filter(|lease| lease.expires > now) {
            Some(lease) => State::rebooting(lease, now, random.id()),
            None => State::selecting(now, now, random.id()),
        };
        Self { identity, random, state, refusals: 0 }
    }

    /// Returns the lease in use.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.state.lease()
    }

    /// True if a reply can arrive, which is in every state except Bound. Otherwise no socket is needed.
    #[must_use]
    pub fn listens(&self) -> bool {
        !matches!(self.state, State::Bound(_))
    }

    /// Returns the time at which [`Client::poll`] must be called; `Time::MAX` means never.
    #[must_use]
    pub fn poll_at(&self) -> Time {
        match &self.state {
            State::Selecting(Selecting { retry, .. })
            | State::Requesting(Requesting { retry, .. }) => retry.at,
            State::Rebooting(Rebooting { retry, lease, .. }) => retry.at.min(lease.expires),
            State::Bound(Bound { lease }) => lease.renew_at,
            State::Renewing(Extending { at, lease, .. }) => (*at).min(lease.rebind_at),
            State::Rebinding(Extending { at, lease, .. }) => (*at).min(lease.expires),
        }
    }

    /// Confirms the lease after the link came back, because the machine may be in another network now.
    pub fn link_returned(&mut self, now: Time) {
        let id = self.random.id();
        self.state = match self.state.lease() {
            Some(lease) => State::rebooting(lease.clone(), now, id),
            None => State::selecting(now, now, id),
        };
    }

    /// Immediately repeats a DISCOVER, or the REQUEST after a restart, because packets sent before the
    /// link was running may never have left the machine.
    pub fn link_settled(&mut self, now: Time) {
        if let State::Selecting(Selecting { retry, .. }) | State::Rebooting(Rebooting { retry, .. }) =
            &mut self.state
            && retry.sent > 0
        {
            *retry = Retry::at(now);
        }
    }

    /// Performs everything that is due at `now`: first attempts, retries, T1, T2, expiry.
    pub fn poll(&mut self, now: Time) -> Vec<Action> {
        let mut actions = Vec::new();
        // After a suspend several deadlines may have passed; each step moves on to a later deadline.
        while self.poll_at() <= now {
            actions.extend(self.step(now));
        }
        actions
    }

    fn step(&mut self, now: Time) -> Option<Action> {
        match self.state.clone() {
            State::Selecting(state) => Some(self.discover(state, now)),
            State::Requesting(state) if state.retry.sent >= REQUESTS_MAX => {
                self.state = State::selecting(state.began, now, self.random.id());
                None
            }
            State::Requesting(state) => Some(self.request(state, now)),
            State::Rebooting(state) if now >= state.lease.expires => {
                Some(self.lose(state.lease, now))
            }
            State::Rebooting(state) if state.retry.sent >= REBOOT_REQUESTS_MAX => {
                Some(self.resume(state.lease))
            }
            State::Rebooting(state) => Some(self.reboot(state, now)),
            State::Bound(Bound { lease }) => {
                self.state = State::Renewing(Extending::new(lease, now, self.random.id()));
                None
            }
            State::Renewing(Extending { lease, .. }) if now >= lease.rebind_at => {
                self.state = State::Rebinding(Extending::new(lease, now, self.random.id()));
                None
            }
            State::Renewing(state) => Some(self.renew(state, now)),
            State::Rebinding(Extending { lease, .. }) if now >= lease.expires => {
                Some(self.lose(lease, now))
            }
            State::Rebinding(state) => Some(self.rebind(state, now)),
        }
    }

    fn discover(&mut self, mut state: Selecting, now: Time) -> Action {
        state.retry.sent(now, &mut self.random);
        let message =
            self.message(Kind::Discover, state.transaction, now.saturating_sub(state.began));
        self.state = State::Selecting(state);
        Action::Broadcast(message)
    }

    fn request(&mut self, mut state: Requesting, now: Time) -> Action {
        state.retry.sent(now, &mut self.random);
        state.sent_at = now;
        let mut message =
            self.message(Kind::Request, state.transaction, now.saturating_sub(state.began));
        message.options.insert(option::REQUESTED, state.address.octets().into());
        message.options.insert(option::SERVER, state.server.octets().into());
        self.state = State::Requesting(state);
        Action::Broadcast(message)
    }

    fn reboot(&mut self, mut state: Rebooting, now: Time) -> Action {
        state.retry.sent(now, &mut self.random);
        state.sent_at = now;
        let mut message =
            self.message(Kind::Request, state.transaction, now.saturating_sub(state.began));
        message.options.insert(option::REQUESTED, state.lease.address.octets().into());
        self.state = State::Rebooting(state);
        Action::Broadcast(message)
    }

    /// Continues with the lease although no server replies, because the lease is still valid
    /// (RFC 2131, 3.2 (4)).
    fn resume(&mut self, lease: Lease) -> Action {
        self.state = State::Bound(Bound { lease: lease.clone() });
        Action::Configure { before: Some(Box::new(lease.clone())), lease: Box::new(lease) }
    }

    fn renew(&mut self, state: Extending, now: Time) -> Action {
        let message = self.extension(&state, now);
        let server = state.lease.server;
        let end = state.lease.rebind_at;
        self.state = State::Renewing(state.sent(now, end));
        Action::Unicast(server, message)
    }

    fn rebind(&mut self, state: Extending, now: Time) -> Action {
        let message = self.extension(&state, now);
        let end = state.lease.expires;
        self.state = State::Rebinding(state.sent(now, end));
        Action::Broadcast(message)
    }

    fn extension(&self, state: &Extending, now: Time) -> Message {
        let mut message =
            self.message(Kind::Request, state.transaction, now.saturating_sub(state.began));
        message.client = state.lease.address;
        message
    }

    /// Drops an expired lease and starts over.
    fn lose(&mut self, lease: Lease, now: Time) -> Action {
        self.state = State::selecting(now, now, self.random.id());
        Action::Deconfigure(Box::new(lease))
    }

    /// Handles a message from the link; a message that is not a reply to the open request is ignored.
    pub fn handle(&mut self, now: Time, message: &Message) -> Option<Action> {
        let transaction = self.state.transaction()?;
        if !is_reply(message, transaction, self.identity.hardware) {
            return None;
        }
        match message.kind {
            Kind::Offer => self.take_offer(now, message),
            Kind::Ack => self.take_ack(message),
            Kind::Nak => self.take_nak(now, message),
            Kind::Discover | Kind::Request => None,
        }
    }

    /// Takes the first usable offer, because waiting for a better one would delay every boot.
    fn take_offer(&mut self, now: Time, message: &Message) -> Option<Action> {
        let State::Selecting(state) = &self.state else { return None };
        let lease = Lease::new(message, now).inspect_err(ignored).ok()?;
        let request = Requesting {
            transaction: state.transaction,
            began: state.began,
            retry: Retry::at(now),
            sent_at: now,
            address: lease.address,
            server: lease.server,
        };
        Some(self.request(request, now))
    }

    fn take_ack(&mut self, message: &Message) -> Option<Action> {
        let sent_at = self.state.requested_at()?;
        let lease = Lease::new(message, sent_at).inspect_err(ignored).ok()?;
        if self.state.server().is_some_and(|server| server != lease.server) {
            return None; // from a server to which no request was sent
        }
        let before = self.state.lease().cloned().map(Box::new);
        self.refusals = 0;
        self.state = State::Bound(Bound { lease: lease.clone() });
        Some(Action::Configure { lease: Box::new(lease), before })
    }

    fn take_nak(&mut self, now: Time, message: &Message) -> Option<Action> {
        self.state.requested_at()?;
        let requested_from = match &self.state {
            State::Renewing(Extending { lease, .. }) => Some(lease.server),
            state => state.server(),
        };
        if requested_from.is_some() && message.address(option::SERVER) != requested_from {
            return None; // only the server of the request can take the lease away
        }
        tracing::warn!(reason = %reason(message), "the server refused the address");
        let begin = now + self.pause_after_refusal();
        let before = self.state.lease().cloned();
        self.state = State::selecting(now, begin, self.random.id());
        before.map(|lease| Action::Deconfigure(Box::new(lease)))
    }

    /// Returns zero after the first refusal, then 1, 2, 4 … 64 s, because a server that alternately
    /// offers and refuses must not cause a storm of packets.
    fn pause_after_refusal(&mut self) -> Duration {
        let pause = match self.refusals {
            0 => Duration::ZERO,
            n => Duration::from_secs(1 << (n - 1).min(6)).min(PAUSE_MAX),
        };
        self.refusals = self.refusals.saturating_add(1);
        pause
    }

    fn message(&self, kind: Kind, transaction: u32, elapsed: Duration) -> Message {
        let hardware = self.identity.hardware;
        let mut options = Options::from([
            (option::CLIENT_ID, [&[1], &hardware[..]].concat()),
            (option::MESSAGE_BYTES, MESSAGE_BYTES_MAX.to_be_bytes().into()),
            (option::PARAMETERS, WANTED.into()),
        ]);
        if let Some(name) = &self.identity.host_name {
            options.insert(option::HOST_NAME, name.clone().into_bytes());
        }
        Message {
            reply: false,
            kind,
            transaction,
            seconds: u16::try_from(elapsed.as_secs()).unwrap_or(u16::MAX),
            client: Ipv4Addr::UNSPECIFIED,
            yours: Ipv4Addr::UNSPECIFIED,
            hardware,
            options,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that `inspect_err` needs")]
fn ignored(error: &LeaseError) {
    tracing::warn!("ignored a server's message: {error}");
}

/// Returns the server's text (option 56), or an empty string.
fn reason(message: &Message) -> String {
    let text = message.options.get(&option::TEXT).map_or(&[][..], Vec::as_slice);
    String::from_utf8_lossy(text).into_owned()
}
