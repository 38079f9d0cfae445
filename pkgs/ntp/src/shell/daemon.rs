//! Rounds of questions, and waiting between them.

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
use crate::packet::{Question, Refusal, Sample};
use crate::selection::select;
use crate::{MILLISECOND, Nanos};

/// How long a round waits for answers. The last server's silence must not delay the first step much.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often the health file is written when nothing else happens.
const HEARTBEAT: Duration = Duration::from_mins(1);
/// A loop that turned no more for this long hangs.
const HOLDS: Duration = Duration::from_secs(150);
/// Failed rounds before the first complaint: a node's network may need some seconds.
const QUIET: u32 = 4;
/// After so many failed rounds in a row names are looked up again.
const STALE: u32 = 3;

/// Keeps the clock until a termination signal comes.
pub fn run(arguments: Arguments, termination: Termination, health: Health) -> anyhow::Result<()> {
    let mut daemon = Daemon {
        servers: Servers::new(arguments.servers),
        resolv_conf: arguments.resolv_conf,
        discipline: Discipline::new(now()),
        termination,
        health,
    };
    while daemon.sleep()? == End::Done && daemon.round()? == End::Done {}
    tracing::info!("ending, the kernel keeps the clock's rate");
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
    /// Until the next round is due.
    fn sleep(&mut self) -> anyhow::Result<End> {
        loop {
            let ready = self.discipline.synchronised();
            self.health.state(if ready { State::Ready } else { State::Alive }, HOLDS);
            let left = self.discipline.next_round().saturating_sub(now());
            if left.is_zero() {
                return Ok(End::Done);
            }
            if self.termination.wait(Some(left.min(HEARTBEAT)))? {
                return Ok(End::Terminated);
            }
        }
    }

    /// Asks everybody, believes a majority, corrects the clock.
    fn round(&mut self) -> anyhow::Result<End> {
        if self.discipline.failures().checked_rem(STALE) == Some(0)
            && self.discipline.failures() > 0
        {
            self.servers.forget_addresses();
        }
        self.servers.resolve(&self.resolv_conf, &self.termination);
        let open = self.servers.due(now()).into_iter().filter_map(begin).collect();
        let (mut samples, mut refusals) = (Vec::new(), Vec::new());
        let end = collect(open, PATIENCE, &self.termination, |(server, question), packet| {
            match question.check(packet, clock::reception()) {
                Ok(sample) => samples.push((*server, sample)),
                Err(Refusal::NotAnAnswer) => return false,
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

    /// Says that nobody answers: not while the network comes up, and less and less often.
    fn complain(&self) {
        let failures = self.discipline.failures();
        if failures >= QUIET && failures.is_power_of_two() {
            let trouble = self.servers.trouble().unwrap_or("no answer that can be believed");
            tracing::warn!(rounds = failures, "no time: {trouble}");
        }
    }

    fn conclude(&mut self, samples: &[(SocketAddr, Sample)]) -> anyhow::Result<()> {
        let values: Vec<_> = samples.iter().map(|(_, sample)| *sample).collect();
        let Some(sample) = select(&values) else {
            if values.len() > 1 {
                tracing::warn!(answers = values.len(), "no majority of the servers agrees");
            }
            self.discipline.round_failed(now());
            self.complain();
            return Ok(());
        };
        tracing::debug!(answers = values.len(), "{sample:?}");
        let Some(action) = self.discipline.round_succeeded(now(), sample) else { return Ok(()) };
        clock::apply(action).with_context(|| format!("adjtimex: {action:?}"))?;
        if let Action::Step { offset, .. } = action {
            let server =
                samples.iter().find(|(_, other)| *other == sample).map(|(server, _)| server);
            tracing::info!(
                seconds = %Seconds(offset),
                server = %server.context("a selected sample came from a server")?,
                answers = values.len(),
                "stepped the clock"
            );
        }
        Ok(())
    }
}

fn begin(server: SocketAddr) -> Option<Exchange<(SocketAddr, Question)>> {
    let begun = random().and_then(|cookie| {
        let question = Question { cookie: cookie.max(1), sent: now() };
        Ok(Exchange::begin(server, &question.build(), (server, question))?)
    });
    begun.inspect_err(|error| tracing::debug!("asking {server}: {error:#}")).ok()
}

/// A difference of times as people read it.
struct Seconds(Nanos);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = self.0 / MILLISECOND;
        let sign = if millis < 0 { "-" } else { "+" };
        write!(f, "{sign}{}.{:03}", millis.abs() / 1000, millis.abs() % 1000)
    }
}
