//! The loop of the operator: changes come in, and passes go out.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use kube::Client;
use kube::runtime::watcher;
use tokio::time::{Instant, sleep_until};

use super::answers::Answers;
use super::calls::Calls;
use super::options::Options;
use super::pass::{Existing, Pass};
use super::plan::{Plan, plan, rules};
use super::proofs::Proofs;
use super::resolver::Resolver;
use super::state::Status;
use super::watch::{Change, Changes, DOMAINS, changes};
use super::world::{Effect, World};
use crate::api::Group;
use crate::ownership::claim::SiteId;
use crate::ownership::hosts_to_prove;
use crate::ownership::rules::List;
use crate::routing::answer::ANSWERED;
use crate::routing::choice::Served;
use crate::routing::kind::Kind;
use kiln_controller::fault::of_watch;

/// The time for which changes are collected before a pass.
const COLLECT: Duration = Duration::from_millis(50);

/// The first wait after a failed pass.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// The longest wait after failed passes.
const RETRY_MAX: Duration = Duration::from_mins(1);

/// The most DNS questions at a time.
const QUESTIONS_MAX: usize = 16;

type Question<'a> = BoxFuture<'a, (String, Option<BTreeSet<String>>)>;

/// The operator.
pub struct Operator<'a> {
    client: Client,
    options: &'a Options,
    state: &'a Status,
    calls: Calls,
    world: World,
    served: Served,
    groups: Vec<Group>,
    existing: Existing,
    answers: Answers,
    /// The plan of the last pass over everything.
    plan: Option<Plan>,
    /// The largest effect of the changes since the last pass.
    effect: Effect,
    /// True if the next pass compares the status of every site.
    is_thorough: bool,
    is_listed: bool,
    proofs: Proofs,
    failures: u32,
    start: Instant,
}

impl<'a> Operator<'a> {
    /// Creates the operator. Sends no request.
    pub fn new(client: Client, options: &'a Options, state: &'a Status) -> Self {
        Self {
            calls: Calls::new(client.clone(), &options.target.namespace),
            client,
            options,
            state,
            world: World::default(),
            served: Served::default(),
            groups: Vec::new(),
            existing: Existing::default(),
            answers: Answers::default(),
            plan: None,
            effect: Effect::Plan,
            is_thorough: true,
            is_listed: false,
            proofs: Proofs::default(),
            failures: 0,
            start: Instant::now(),
        }
    }

    /// Works until the watches end, which they do not.
    pub async fn run(&mut self) {
        let resolver = self.resolver();
        let mut changes = Changes::new();
        let mut questions: FuturesUnordered<Question<'_>> = FuturesUnordered::new();
        let mut waiting: Vec<String> = Vec::new();
        let mut recheck = Instant::now();
        let mut due: Option<Instant> = None;
        loop {
            while questions.len() < QUESTIONS_MAX && resolver.is_some() {
                let (Some(host), Some(resolver)) = (waiting.pop(), &resolver) else { break };
                questions.push(async move { (host.clone(), resolver.ask(&host).await) }.boxed());
            }
            let next = due.filter(|_| self.is_ready());
            tokio::select! {
                Some(change) = changes.next(), if !changes.is_empty() => {
                    let effect = self.changed(change);
                    self.effect = self.effect.max(effect);
                    if effect > Effect::Nothing {
                        due = Some(soon(due, COLLECT));
                    }
                }
                Some((host, names)) = questions.next(), if !questions.is_empty() => {
                    self.proofs.answer(&host, names, self.start.elapsed());
                    self.effect = Effect::Plan;
                    due = Some(soon(due, COLLECT));
                }
                () = sleep_until(recheck) => {
                    match self.recheck().await {
                        Ok(true) => changes = self.changes(),
                        Ok(false) => {}
                        Err(error) => self.state.fails(&error),
                    }
                    self.effect = Effect::Plan;
                    self.is_thorough = true;
                    recheck = Instant::now() + if self.is_listed { self.options.recheck } else { RETRY_MIN };
                    due = Some(soon(due, Duration::ZERO));
                }
                () = sleep_until(next.unwrap_or(recheck)), if next.is_some() => {
                    due = match std::mem::replace(&mut self.effect, Effect::Nothing) {
                        Effect::Status if self.failures == 0 => self.refresh().await,
                        _ => self.pass(&mut waiting).await,
                    };
                }
            }
        }
    }

    fn resolver(&self) -> Option<Resolver> {
        if !self.options.asks_dns {
            return None;
        }
        Resolver::new()
            .inspect_err(|error| tracing::warn!("{error:#}; DNS records do not count"))
            .ok()
    }

    fn changes(&self) -> Changes {
        let kinds = ANSWERED.into_iter().filter(|kind| self.served.has(*kind));
        let kinds: Vec<Kind> = kinds.collect();
        let namespace = &self.options.target.namespace;
        changes(&self.client, &self.calls, &self.groups, &kinds, namespace)
    }

    /// True if all facts are known.
    fn is_ready(&self) -> bool {
        self.is_listed && self.world.is_complete(&self.groups)
    }

    /// Records a change.
    fn changed(&mut self, change: Change) -> Effect {
        match change {
            Change::Site(group, event) => match *event {
                Ok(event) => self.world.apply(group, event),
                Err(error) => self.cannot_watch(&error),
            },
            Change::Object(kind, event) => match *event {
                Ok(event) => self.answers.apply(kind, event, &mut self.existing),
                Err(error) => self.cannot_watch(&error),
            },
            Change::Domains(Err(error)) => self.cannot_watch(&error),
            Change::Domains(Ok(data)) => {
                let data = data.unwrap_or_default();
                let entries = data.iter().map(|(key, value)| (key.as_str(), value.as_str()));
                let (list, wrong) = List::read(entries);
                for entry in wrong {
                    tracing::warn!("{DOMAINS}: {entry} is not a domain; the entry has no effect");
                }
                let is_new = self.world.list.as_ref() != Some(&list);
                self.world.list = Some(list);
                if is_new { Effect::Plan } else { Effect::Nothing }
            }
        }
    }

    fn cannot_watch(&self, error: &watcher::Error) -> Effect {
        self.state.fails(&of_watch(error).context("cannot watch"));
        Effect::Nothing
    }

    /// Looks at the served APIs and at the objects. Returns true if the watches must begin again.
    async fn recheck(&mut self) -> Result<bool> {
        let (served, groups) = self.calls.discover().await?;
        for kind in Kind::ALL {
            let list = if served.has(kind) { self.calls.list(kind).await? } else { Vec::new() };
            self.existing.replace(kind, list);
        }
        let is_new = !self.is_listed || groups != self.groups || served != self.served;
        if served != self.served {
            tracing::info!("serves {:?}", served.0);
        }
        self.served = served;
        if !groups.contains(&Group::Kiln) {
            tracing::warn!(
                "the cluster has no definition of {}; apply manifests/crd",
                Group::Kiln.name()
            );
        }
        for gone in self.groups.iter().filter(|group| !groups.contains(group)) {
            self.world.forget(*gone);
        }
        self.groups = groups;
        self.is_listed = true;
        Ok(is_new)
    }

    /// Writes the statuses of the sites that need it, by the last plan. Returns the time of the next pass,
    /// if one is needed without a change.
    async fn refresh(&mut self) -> Option<Instant> {
        let Some(plan) = &self.plan else {
            self.effect = Effect::Plan;
            return Some(Instant::now());
        };
        let some = stirred(&mut self.world, &mut self.answers, plan);
        let pass = Pass {
            calls: &self.calls,
            plan,
            answers: self.answers.known(),
            state: self.state,
            scheme: &self.options.scheme,
        };
        let works = pass.refresh(&mut self.world.sites, &some).await;
        self.next(works)
    }

    /// Makes one pass over everything. Returns the time of the next one, if one is needed without a change.
    async fn pass(&mut self, waiting: &mut Vec<String>) -> Option<Instant> {
        self.state.complete();
        let claims = self.world.claims();
        let rules = rules(&self.world, self.options, self.proofs.known());
        if self.options.asks_dns {
            let hosts = hosts_to_prove(&claims, &rules);
            waiting.extend(self.proofs.ask(&hosts, self.start.elapsed()));
        }
        let before = self.plan.take();
        let plan = plan(&claims, &rules, self.options, &self.served, before.as_ref());
        let some = if std::mem::replace(&mut self.is_thorough, false) {
            self.world.stirred.clear();
            self.answers.stirred.clear();
            plan.verdicts.keys().cloned().collect()
        } else {
            let mut some = stirred(&mut self.world, &mut self.answers, &plan);
            some.extend(plan.changed(before.as_ref()));
            some
        };
        let plan = self.plan.insert(plan);
        let pass = Pass {
            calls: &self.calls,
            plan,
            answers: self.answers.known(),
            state: self.state,
            scheme: &self.options.scheme,
        };
        let works = pass.run(&mut self.world.sites, &mut self.existing, &some).await;
        self.next(works)
    }

    /// Returns the time of the next pass after one that worked or not.
    fn next(&mut self, works: bool) -> Option<Instant> {
        self.is_thorough |= !works;
        self.failures = if works { 0 } else { self.failures.saturating_add(1) };
        let retry = RETRY_MIN.saturating_mul(1 << self.failures.min(6)).min(RETRY_MAX);
        let retry = (!works).then(|| Instant::now() + retry);
        let question = self.proofs.next().map(|due| self.start + due);
        retry.into_iter().chain(question).min()
    }
}

/// Takes the sites whose status or answers have changed.
fn stirred(world: &mut World, answers: &mut Answers, plan: &Plan) -> BTreeSet<SiteId> {
    let mut some = std::mem::take(&mut world.stirred);
    for key in answers.stirred.drain(..) {
        some.extend(plan.objects.get(&key).iter().flat_map(|wanted| wanted.sites.clone()));
    }
    some
}

/// Returns the earlier of a time and the one after a wait.
fn soon(due: Option<Instant>, wait: Duration) -> Instant {
    let time = Instant::now() + wait;
    due.map_or(time, |due| due.min(time))
}
