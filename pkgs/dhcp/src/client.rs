//! The client's protocol (RFC 2131, 4.4): states and what moves between them. No I/O, no clock.
//!
//! ```text
//!              ┌─────────────── no answer, NAK ───────────────┐
//!              ▼                                              │
//!   start → Selecting ── OFFER ──→ Requesting ── ACK ──→ Bound ── T1 ──→ Renewing ── T2 ──→ Rebinding
//!   start → Rebooting (has a lease of an earlier run) ──→ Bound ◄──────── ACK ◄────────────────┘
//! ```
//!
//! The caller hands in packets ([`Client::handle`]) and the time ([`Client::poll`], not later than
//! [`Client::poll_at`]), and does what the returned [`Action`]s say.
//!
//! On purpose: the first DISCOVER goes out at once, not after the random 1 to 10 s of RFC 2131,
//! 4.4.1 (that delay spreads the load after a power cut; a node that serves a second later costs
//! more). A first answer that is lost is asked for again after 1 s instead of 4. The address is used
//! without an ARP probe before, and announced after.

mod state;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::Time;
use crate::lease::{Lease, LeaseError, answers};
use crate::message::{Kind, Message, Options, option};
use crate::random::Random;
use state::{Bound, Extending, Rebooting, Requesting, Retry, Selecting, State};

/// Unanswered REQUESTs after which an offer is forgotten: 1 + 2 + 4 + 8 s.
const REQUESTS: u32 = 4;
/// Unanswered REQUESTs after which a restarted client goes on with the lease that it had.
const REBOOT_REQUESTS: u32 = 3;
/// Longest pause between two attempts (RFC 2131, 4.1).
const LONGEST_PAUSE: Duration = Duration::from_secs(64);
/// Shortest pause between two attempts to extend a lease (RFC 2131, 4.4.5), long leases only.
const EXTENSION_PAUSE: Duration = Duration::from_mins(1);
/// Ethernet's MTU without IP and UDP headers.
const LARGEST_MESSAGE: u16 = 1472;

/// Options that we ask for; 121 before 3 (RFC 3442).
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

/// Who the client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The interface's Ethernet address; also its client identifier.
    pub hardware: [u8; 6],
    /// The node's name, told to servers that put it into DNS. Never taken *from* a server.
    pub host_name: Option<String>,
}

/// What the caller has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send to all servers on the link, from the message's own client address.
    Broadcast(Message),
    /// Send to this server, through the IP stack.
    Unicast(Ipv4Addr, Message),
    /// Make this lease the interface's configuration; `before` is what it was so far.
    Configure {
        /// The lease to use from now on.
        lease: Box<Lease>,
        /// The lease in use until now, which may be the same but for its times.
        before: Option<Box<Lease>>,
    },
    /// Take this lease's configuration away: it ended, or the server said so.
    Deconfigure(Box<Lease>),
}

/// The client of one interface.
#[derive(Debug)]
pub struct Client {
    identity: Identity,
    random: Random,
    state: State,
    /// NAKs since the last lease: each one doubles the pause before the next attempt.
    refusals: u32,
}

impl Client {
    /// Begins at `now`: with the lease of an earlier run if it still holds (INIT-REBOOT), else without.
    #[must_use]
    pub fn new(identity: Identity, seed: u64, now: Time, earlier: Option<Lease>) -> Self {
        let mut random = Random::new(seed);
        let state = match earlier.filter(|lease| lease.expires > now) {
            Some(lease) => State::rebooting(lease, now, random.id()),
            None => State::selecting(now, now, random.id()),
        };
        Self { identity, random, state, refusals: 0 }
    }

    /// The lease in use.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.state.lease()
    }

    /// Whether an answer may come now: outside of Bound. Nothing needs to listen otherwise.
    #[must_use]
    pub fn listens(&self) -> bool {
        !matches!(self.state, State::Bound(_))
    }

    /// When [`Client::poll`] has something to do; `Time::MAX` for never.
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

    /// The link came back: the machine may be in another network now, so the lease is confirmed.
    pub fn link_returned(&mut self, now: Time) {
        let id = self.random.id();
        self.state = match self.state.lease() {
            Some(lease) => State::rebooting(lease.clone(), now, id),
            None => State::selecting(now, now, id),
        };
    }

    /// What was sent until now may never have left: a DISCOVER or the question after a restart is
    /// repeated at once.
    pub fn link_settled(&mut self, now: Time) {
        if let State::Selecting(Selecting { retry, .. }) | State::Rebooting(Rebooting { retry, .. }) =
            &mut self.state
            && retry.sent > 0
        {
            *retry = Retry::at(now);
        }
    }

    /// Does what the time asks for: first attempts, repetitions, T1, T2, the lease's end.
    pub fn poll(&mut self, now: Time) -> Vec<Action> {
        let mut actions = Vec::new();
        // Several moments may have passed at once, after a sleep: each step moves to a later one.
        while self.poll_at() <= now {
            actions.extend(self.step(now));
        }
        actions
    }

    fn step(&mut self, now: Time) -> Option<Action> {
        match self.state.clone() {
            State::Selecting(state) => Some(self.discover(state, now)),
            State::Requesting(state) if state.retry.sent >= REQUESTS => {
                self.state = State::selecting(state.began, now, self.random.id());
                None
            }
            State::Requesting(state) => Some(self.request(state, now)),
            State::Rebooting(state) if now >= state.lease.expires => {
                Some(self.lose(state.lease, now))
            }
            State::Rebooting(state) if state.retry.sent >= REBOOT_REQUESTS => {
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

    /// Nobody answers, but the lease holds: RFC 2131, 3.2 (4).
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

    /// The lease is over: begin anew.
    fn lose(&mut self, lease: Lease, now: Time) -> Action {
        self.state = State::selecting(now, now, self.random.id());
        Action::Deconfigure(Box::new(lease))
    }

    /// Takes a message from the link; what is no answer to an open question changes nothing.
    pub fn handle(&mut self, now: Time, message: &Message) -> Option<Action> {
        let transaction = self.state.transaction()?;
        if !answers(message, transaction, self.identity.hardware) {
            return None;
        }
        match message.kind {
            Kind::Offer => self.take_offer(now, message),
            Kind::Ack => self.take_ack(message),
            Kind::Nak => self.take_nak(now, message),
            Kind::Discover | Kind::Request => None,
        }
    }

    /// The first usable offer wins: waiting for a better one would cost every boot.
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
        let sent_at = self.state.asked_at()?;
        let lease = Lease::new(message, sent_at).inspect_err(ignored).ok()?;
        if self.state.server().is_some_and(|server| server != lease.server) {
            return None; // another server's, which we did not ask
        }
        let before = self.state.lease().cloned().map(Box::new);
        self.refusals = 0;
        self.state = State::Bound(Bound { lease: lease.clone() });
        Some(Action::Configure { lease: Box::new(lease), before })
    }

    fn take_nak(&mut self, now: Time, message: &Message) -> Option<Action> {
        self.state.asked_at()?;
        let asked = match &self.state {
            State::Renewing(Extending { lease, .. }) => Some(lease.server),
            state => state.server(),
        };
        if asked.is_some() && message.address(option::SERVER) != asked {
            return None; // who was not asked cannot take the lease away
        }
        tracing::warn!(reason = %reason(message), "the server refuses the address");
        let begin = now + self.pause_after_refusal();
        let before = self.state.lease().cloned();
        self.state = State::selecting(now, begin, self.random.id());
        before.map(|lease| Action::Deconfigure(Box::new(lease)))
    }

    /// None after the first refusal, then 1, 2, 4 … 64 s: a server that offers and refuses in turn
    /// must not make a storm.
    fn pause_after_refusal(&mut self) -> Duration {
        let pause = match self.refusals {
            0 => Duration::ZERO,
            n => Duration::from_secs(1 << (n - 1).min(6)).min(LONGEST_PAUSE),
        };
        self.refusals = self.refusals.saturating_add(1);
        pause
    }

    fn message(&self, kind: Kind, transaction: u32, elapsed: Duration) -> Message {
        let hardware = self.identity.hardware;
        let mut options = Options::from([
            (option::CLIENT_ID, [&[1], &hardware[..]].concat()),
            (option::MAXIMUM, LARGEST_MESSAGE.to_be_bytes().into()),
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what `inspect_err` calls")]
fn ignored(error: &LeaseError) {
    tracing::warn!("ignoring a server's message: {error}");
}

/// The server's text (option 56), if any.
fn reason(message: &Message) -> String {
    let text = message.options.get(&option::TEXT).map_or(&[][..], Vec::as_slice);
    String::from_utf8_lossy(text).into_owned()
}
