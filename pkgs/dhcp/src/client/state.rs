//! The states of RFC 2131, figure 5. Each state holds only the data that is valid in it.
//!
//! INIT is a `Selecting` that has not sent its first DISCOVER yet.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::Time;
use crate::lease::Lease;
use crate::random::Random;

/// Longest pause between two attempts (RFC 2131, 4.1).
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(64);
/// Shortest pause between two attempts to extend a long lease (RFC 2131, 4.4.5).
const EXTENSION_PAUSE: Duration = Duration::from_mins(1);

#[derive(Debug, Clone)]
pub(super) enum State {
    Selecting(Selecting),
    Requesting(Requesting),
    Rebooting(Rebooting),
    Bound(Bound),
    Renewing(Extending),
    Rebinding(Extending),
}

/// A DISCOVER was sent, or is about to be.
#[derive(Debug, Clone)]
pub(super) struct Selecting {
    pub(super) transaction: u32,
    pub(super) began: Time,
    pub(super) retry: Retry,
}

/// An offer was chosen.
#[derive(Debug, Clone)]
pub(super) struct Requesting {
    pub(super) transaction: u32,
    pub(super) began: Time,
    pub(super) retry: Retry,
    /// The time of the latest REQUEST.
    pub(super) sent_at: Time,
    pub(super) address: Ipv4Addr,
    pub(super) server: Ipv4Addr,
}

/// A lease is in use, and any server is asked to confirm that the lease is valid in this network.
#[derive(Debug, Clone)]
pub(super) struct Rebooting {
    pub(super) transaction: u32,
    pub(super) began: Time,
    pub(super) retry: Retry,
    pub(super) sent_at: Time,
    pub(super) lease: Lease,
}

/// A confirmed lease, with nothing to do before T1.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    pub(super) lease: Lease,
}

/// A lease that is being extended: by its own server after T1 (Renewing), by any server after T2
/// (Rebinding).
#[derive(Debug, Clone)]
pub(super) struct Extending {
    pub(super) transaction: u32,
    pub(super) began: Time,
    /// The time of the next attempt.
    pub(super) at: Time,
    pub(super) sent_at: Time,
    pub(super) lease: Lease,
}

/// Retries whose pause starts at 1 s and doubles each time.
#[derive(Debug, Clone)]
pub(super) struct Retry {
    /// The next attempt.
    pub(super) at: Time,
    /// Attempts so far.
    pub(super) sent: u32,
}

impl Retry {
    pub(super) const fn at(at: Time) -> Self {
        Self { at, sent: 0 }
    }

    pub(super) fn sent(&mut self, now: Time, random: &mut Random) {
        let pause = Duration::from_secs(1 << self.sent.min(6)).min(PAUSE_MAX);
        self.at = now + random.jitter(pause);
        self.sent = self.sent.saturating_add(1);
    }
}

impl Extending {
    pub(super) const fn new(lease: Lease, now: Time, transaction: u32) -> Self {
        Self { transaction, began: now, at: now, sent_at: now, lease }
    }

    /// Schedules the next attempt after half of the time left until `end`, but after at least 60 s
    /// (RFC 2131, 4.4.5). For leases below 20 minutes the minimum is a twentieth of the lease, so that
    /// they get more than one attempt too.
    pub(super) fn sent(mut self, now: Time, end: Time) -> Self {
        let least = self.lease.duration().map_or(EXTENSION_PAUSE, |lease| lease / 20);
        let least = least.clamp(Duration::from_secs(1), EXTENSION_PAUSE);
        let half = end.saturating_sub(now) / 2;
        self.at = now.saturating_add(half.max(least));
        self.sent_at = now;
        self
    }
}

impl State {
    pub(super) const fn selecting(began: Time, first: Time, transaction: u32) -> Self {
        Self::Selecting(Selecting { transaction, began, retry: Retry::at(first) })
    }

    pub(super) const fn rebooting(lease: Lease, now: Time, transaction: u32) -> Self {
        let retry = Retry::at(now);
        Self::Rebooting(Rebooting { transaction, began: now, retry, sent_at: now, lease })
    }

    /// Returns the lease whose address is configured on the interface.
    pub(super) const fn lease(&self) -> Option<&Lease> {
        match self {
            Self::Selecting(_) | Self::Requesting(_) => None,
            Self::Rebooting(Rebooting { lease, .. })
            | Self::Bound(Bound { lease })
            | Self::Renewing(Extending { lease, .. })
            | Self::Rebinding(Extending { lease, .. }) => Some(lease),
        }
    }

    /// Returns the transaction id of the open request.
    pub(super) const fn transaction(&self) -> Option<u32> {
        match self {
            Self::Selecting(Selecting { transaction, .. })
            | Self::Requesting(Requesting { transaction, .. })
            | Self::Rebooting(Rebooting { transaction, .. })
            | Self::Renewing(Extending { transaction, .. })
            | Self::Rebinding(Extending { transaction, .. }) => Some(*transaction),
            Self::Bound(_) => None,
        }
    }

    /// Returns the time at which the open REQUEST was sent, from which a lease's times count.
    pub(super) const fn requested_at(&self) -> Option<Time> {
        match self {
            Self::Requesting(Requesting { sent_at, .. })
            | Self::Rebooting(Rebooting { sent_at, .. })
            | Self::Renewing(Extending { sent_at, .. })
            | Self::Rebinding(Extending { sent_at, .. }) => Some(*sent_at),
            Self::Selecting(_) | Self::Bound(_) => None,
        }
    }

    /// Returns the only server that may grant the open request.
    pub(super) const fn server(&self) -> Option<Ipv4Addr> {
        match self {
            Self::Requesting(Requesting { server, .. }) => Some(*server),
            _ => None,
        }
    }
}
