//! Rounds of requests, and waiting between them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use kiln_daemon::health::{Health, State};
use kiln_daemon::signal::Termination;

use super::arguments::Arguments;
use super::exchange::{End, Exchange, collect};
use super::servers::Servers;
use super::{clock, now, random};
use crate::discipline::{Action, Discipline};
use crate::packet::{Refusal, Request, Sample};
use crate::selection::select;
use crate::{MILLISECOND, Nanos};

/// The time that a round waits for replies, which is short so that a silent server does not delay the
/// first step much.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The state is reported at least this often.
const HEARTBEAT: Duration = Duration::from_mins(1);
/// A loop that has not run for this long is considered hung.
const VALIDITY: Duration = Duration::from_secs(150);
/// Failed rounds before the first warning, because a node's network may need some seconds.
const QUIET_ROUNDS: u32 = 4;
/// Failed rounds in a row after which names are looked up again.
const STALE_ROUNDS: u32 = 3;

/// Keeps the clock until a termination signal arrives.
pub fn run(arguments: Arguments, termination: Termination, health: Health) -> anyhow::Result<()> {
    let mut daemon = Daemon {
        servers: Servers::new(arguments.servers),
        resolv_conf: arguments.resolv_conf,
        discipline: Discipline::new(now()),
        termination,
        health,
    };
    while daemon.sleep()? == End::Done && daemon.round()? == End::Done {}
    tracing::info!("stopping; the kernel keeps the clock's rate");
    Ok(())
}

struct Daemon {
    servers: Servers,
    resolv_conf: PathBuf,
    discipline: Discipline,
    termination: Termination,
    health: Health,
}

impl Daemon {
    /// Sleeps until the next round is due.
    fn sleep(&mut self) -> anyhow::Result<End> {
        loop {
            let ready = self.discipline.synchronised();
            self.health.state(if ready { State::Ready } else { State::Alive }, VALIDITY);
            let left = self.discipline.next_round().saturating_sub(now());
            if left.is_zero() {
                return Ok(End::Done);
            }
            if self.termination.wait(Some(left.min(HEARTBEAT)))? {
                return Ok(End::Terminated);
            }
        }
    }

    /// Queries all servers, selects a majority and corrects the clock.
    fn round(&mut self) -> anyhow::Result<End> {
        if self.discipline.failures().checked_rem(STALE_ROUNDS) == Some(0)
            && self.discipline.failures() > 0
        {
            self.servers.forget_addresses();
        }
        self.servers.resolve(&self.resolv_conf, &self.termination);
        let open = self.servers.due(now()).into_iter().filter_map(begin).collect();
        let (mut samples, mut refusals) = (Vec::new(), Vec::new());
        let end = collect(open, TIMEOUT, &self.termination, |(server, request), packet| {
            match request.check(packet, clock::reception()) {
                Ok(sample) => samples.push((*server, sample)),
                Err(Refusal::NotAReply) => return false,
                Err(refusal) => refusals.push((*server, refusal)),
            }
            true
        })?;
        for (server, refusal) in refusals {
            tracing::warn!(%server, "no time: {refusal}");
            self.servers.refused(server, refusal, now());
        }
        if end == End::Done {
            self.conclude(&samples)?;
        }
        Ok(end)
    }

    /// Warns that there is no time, but not while the network comes up, and later less and less often.
    fn warn(&self) {
        let failures = self.discipline.failures();
        if failures >= QUIET_ROUNDS && failures.is_power_of_two() {
            let trouble = self.servers.trouble().unwrap_or("no credible reply");
            tracing::warn!(rounds = failures, "no time: {trouble}");
        }
    }

    fn conclude(&mut self, samples: &[(SocketAddr, Sample)]) -> anyhow::Result<()> {
        let values: Vec<_> = samples.iter().map(|(_, sample)| *sample).collect();
        let Some(sample) = select(&values) else {
            if values.len() > 1 {
                tracing::warn!(replies = values.len(), "no majority of the servers agrees");
            }
            self.discipline.round_failed(now());
            self.warn();
            return Ok(());
        };
        tracing::debug!(replies = values.len(), "{sample:?}");
        let Some(action) = self.discipline.round_succeeded(now(), sample) else { return Ok(()) };
        clock::apply(action).with_context(|| format!("cannot correct the clock: {action:?}"))?;
        if let Action::Step { offset, .. } = action {
            let server =
                samples.iter().find(|(_, other)| *other == sample).map(|(server, _)| server);
            tracing::info!(
                seconds = %Seconds(offset),
                server = %server.context("the selected sample has no server")?,
                replies = values.len(),
                "stepped the clock"
            );
        }
        Ok(())
    }
}

fn begin(server: SocketAddr) -> Option<Exchange<(SocketAddr, Request)>> {
    let begun = random().and_then(|cookie| {
        let request = Request { cookie: cookie.max(1), sent: now() };
        Ok(Exchange::begin(server, &request.build(), (server, request))?)
    });
    begun.inspect_err(|error| tracing::debug!("cannot query {server}: {error:#}")).ok()
}

/// A time difference, displayed in seconds with its sign.
struct Seconds(Nanos);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = self.0 / MILLISECOND;
        let sign = if millis < 0 { "-" } else { "+" };
        write!(f, "{sign}{}.{:03}", millis.abs() / 1000, millis.abs() % 1000)
    }
}
