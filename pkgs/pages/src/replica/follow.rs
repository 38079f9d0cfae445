//! The loop of a replica: changes from the syncer, transfers, and the table for the next run.
//!
//! One thread waits for changes; a few others transfer revisions, so that a large site does not
//! delay a small one. Only this module's loop changes the plan.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use kiln_server::threads::spawn;

use crate::digest::Digest;
use crate::key::SiteKey;
use crate::replica::client::Client;
use crate::replica::plan::{Plan, Transfer};
use crate::replica::store::Store;
use crate::table::{Changes, Table};

/// The number of transfers at the same time.
const TRANSFERS: usize = 4;

/// The stack of a thread in bytes; TLS and JSON need some.
const STACK: usize = 512 << 10;

/// The pauses between two failed requests for changes: the first one, doubled up to the last one.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(15);

/// The longest and the shortest time between two looks at retries and at the observer's wish to
/// stop. A change is saved after the longest time, together with others.
const TURN: Duration = Duration::from_secs(1);
const TURN_MIN: Duration = Duration::from_millis(10);

/// The receiver of a replica's news.
pub trait Observer: Send {
    /// Gets the served table and the sites in it that differ from before. A site that is not in
    /// the table any more is gone.
    fn changed(&mut self, table: &Table, sites: &[SiteKey]);

    /// Gets the state after each answer and each failure of the syncer.
    fn state(&mut self, state: State);

    /// True if the replica must stop.
    fn is_over(&self) -> bool;
}

/// The state of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// True if the last request for changes was answered.
    pub is_connected: bool,
    /// The number of sites that do not show what the syncer has.
    pub behind: usize,
}

/// News for the loop.
enum News {
    Changes(Changes),
    /// The syncer cannot be asked; the cause has been logged.
    Away,
    Arrived(Digest),
    Failed(Digest),
}

/// The shared part of the transferring threads.
#[derive(Clone)]
struct Work {
    jobs: Arc<Mutex<Receiver<Transfer>>>,
    news: Sender<News>,
    client: Client,
    store: Store,
}

/// Follows a syncer until the observer ends it. `plan` starts with the store's table.
pub fn follow(
    client: &Client,
    store: &Store,
    plan: Plan,
    observer: &mut impl Observer,
) -> Result<()> {
    let (news, inbox) = channel();
    let (jobs, queue) = channel();
    let jobs_of = Arc::new(Mutex::new(queue));
    let (client_of, store_of) = (client.clone(), store.clone());
    let work = Work { jobs: jobs_of, news: news.clone(), client: client_of, store: store_of };
    for _ in 0..TRANSFERS {
        let work = work.clone();
        spawn("transfer", STACK, move || work.run())?;
    }
    let asking = client.clone();
    spawn("changes", STACK, move || ask(&asking, &news))?;
    let running = BTreeSet::new();
    let mut replica = Replica { store, plan, jobs, running, unsaved: None, is_connected: false };
    while !observer.is_over() {
        match inbox.recv_timeout(replica.turn()) {
            Ok(news) => {
                let sites = replica.take(news);
                if !sites.is_empty() {
                    observer.changed(replica.plan.served(), &sites);
                    replica.unsaved.get_or_insert_with(Instant::now);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        replica.start_transfers();
        if replica.unsaved.is_some_and(|since| since.elapsed() >= TURN) {
            replica.save();
        }
        let Replica { is_connected, ref plan, .. } = replica;
        observer.state(State { is_connected, behind: plan.behind() });
    }
    replica.save();
    Ok(())
}

/// The loop's own state.
struct Replica<'a> {
    store: &'a Store,
    plan: Plan,
    jobs: Sender<Transfer>,
    /// The revisions that are being transferred.
    running: BTreeSet<Digest>,
    /// The time of the first change that the saved table lacks.
    unsaved: Option<Instant>,
    is_connected: bool,
}

impl Replica<'_> {
    /// Returns the time until the next retry, within bounds.
    fn turn(&self) -> Duration {
        let retry = self.plan.next_retry();
        let retry = retry.map(|retry| retry.saturating_duration_since(Instant::now()));
        retry.map_or(TURN, |retry| retry.clamp(TURN_MIN, TURN))
    }

    /// Adds news to the plan; returns the sites whose service changes.
    fn take(&mut self, news: News) -> Vec<SiteKey> {
        match news {
            News::Changes(changes) => {
                self.is_connected = true;
                self.plan.learn(changes, |revision| self.store.has(revision))
            }
            News::Away => {
                self.is_connected = false;
                Vec::new()
            }
            News::Arrived(revision) => {
                self.running.remove(&revision);
                self.plan.arrived(&revision)
            }
            News::Failed(revision) => {
                self.running.remove(&revision);
                self.plan.failed(revision, Instant::now());
                Vec::new()
            }
        }
    }

    /// Hands as many transfers to the threads as they can start at once, so that a transfer that a
    /// later push makes useless is not waiting in a queue.
    fn start_transfers(&mut self) {
        for transfer in self.plan.due(Instant::now()) {
            if self.running.len() < TRANSFERS && self.running.insert(transfer.revision) {
                // Fails only if all threads have panicked, and then the loop is of no use anyway.
                let _ = self.jobs.send(transfer);
            }
        }
    }

    /// Saves the table, then removes packs that no site needs. The old table names such packs, so
    /// it must be replaced before.
    fn save(&mut self) {
        self.unsaved = None;
        let saved = self.store.save(self.plan.served());
        if let Err(error) = saved.and_then(|()| self.store.sweep(&self.plan.kept())) {
            tracing::warn!("{error:#}; a restart begins with an older table");
        }
    }
}

/// Asks for changes until the loop has ended.
fn ask(client: &Client, news: &Sender<News>) {
    let mut generation: Option<String> = None;
    let mut pause = FIRST_PAUSE;
    loop {
        let message = match client.changes(generation.as_deref()) {
            Ok(changes) => {
                pause = FIRST_PAUSE;
                generation = Some(changes.generation.clone());
                News::Changes(changes)
            }
            Err(error) => {
                tracing::warn!("{error:#}; trying again in {pause:?}");
                std::thread::sleep(pause);
                pause = (pause * 2).min(LAST_PAUSE);
                News::Away
            }
        };
        if news.send(message).is_err() {
            return;
        }
    }
}

impl Work {
    /// Transfers until the loop has ended.
    fn run(&self) {
        loop {
            let job = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(transfer) = job else { return };
            let message = match self.client.fetch(&transfer, &self.store) {
                Ok(()) => News::Arrived(transfer.revision),
                Err(error) => {
                    tracing::warn!("{error:#}");
                    News::Failed(transfer.revision)
                }
            };
            if self.news.send(message).is_err() {
                return;
            }
        }
    }
}
