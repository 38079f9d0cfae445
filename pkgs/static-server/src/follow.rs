//! Follows the content: a thread checks the content from time to time and builds a new index when
//! it has changed.
//!
//! The thread polls, because notifications would have to be set up again for every link that is
//! switched, and do not work on some file systems. A check of a thousand files takes a millisecond,
//! and the time between two checks is at least a hundred times the duration of the last one.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::content::Content;
use crate::docroot::{DocRoot, Loaded, Look};
use crate::folder::crew::threads;
use crate::folder::scan;
use crate::index::policy::Policy;
use crate::options::Options;
use crate::shared::{Shared, State};

/// The shortest time between two checks, as a multiple of the last check's duration: checks may use
/// a hundredth of one processor.
const LOOK_FACTOR: u32 = 100;

/// The shortest time between two readings while the content keeps changing, as a multiple of the
/// last reading's duration.
const LOAD_FACTOR: u32 = 10;

/// The number of attempts to read content that changes in the meantime, at the start and after
/// SIGHUP.
const TRIES: usize = 10;

/// The number of times to check whether workers have cut slow readers, and the pause before each.
const CUT_LOOKS: usize = 500;
const CUT_PAUSE: Duration = Duration::from_millis(2);

/// Content that could not be read and has not changed is read again after the first number of
/// checks, then after twice as many each time, up to the second number.
const FIRST_PASS: u32 = 64;
const LAST_PASS: u32 = 4096;

/// A file that changed less than this time before it was read may have changed again with the same
/// time, because kernels count file times in ticks of up to 10 ms, and some file systems in seconds.
const DOUBT: Duration = Duration::from_millis(1020);

/// Decides when to read the content again, without I/O.
#[derive(Debug)]
struct Decision {
    /// The state of the document root when the served content was read.
    served: Look,
    /// True if the content was read so soon after a change that another change may have been
    /// missed.
    is_doubtful: bool,
    /// The state at the last check, if it differed from that of the served content.
    last: Option<Look>,
    /// The state that could not be read, until the state changes.
    bad: Option<Bad>,
}

/// A state that could not be read.
#[derive(Debug, Clone, Copy)]
struct Bad {
    look: Look,
    /// The number of checks from one attempt to the next.
    looks: u32,
    /// The number of checks until the next attempt.
    left: u32,
}

impl Decision {
    /// True if it is time to read: the state of the document root has changed, and is the same as
    /// at the last check.
    fn is_time(&mut self, look: Look) -> bool {
        if look == self.served && !self.is_doubtful {
            (self.last, self.bad) = (None, None);
            return false;
        }
        if let Some(bad) = self.bad.as_mut().filter(|bad| bad.look == look) {
            bad.left = bad.left.saturating_sub(1);
            return bad.left == 0;
        }
        if self.last == Some(look) {
            return true;
        }
        self.last = Some(look);
        false
    }

    /// Records that this state could not be read. The state is skipped while it stays the same, but
    /// not forever, because the cause may have been a lack of memory or descriptors.
    fn could_not_read(&mut self, look: Look) {
        let before = self.bad.filter(|bad| bad.look == look);
        let looks = before.map_or(FIRST_PASS, |bad| bad.looks.saturating_mul(2).min(LAST_PASS));
        self.bad = Some(Bad { look, looks, left: looks });
    }
}

/// Wakes the thread.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Mutex<bool>,
    news: Condvar,
}

impl Bell {
    /// Asks the thread to read settings and content again.
    pub fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.news.notify_one();
    }

    /// Sleeps; returns true if the bell was rung.
    fn wait(&self, time: Option<Duration>) -> bool {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let asleep = |rung: &mut bool| !*rung;
        let mut rung = match time {
            Some(time) => {
                let woken = self.news.wait_timeout_while(rung, time, asleep);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.news.wait_while(rung, asleep).unwrap_or_else(PoisonError::into_inner),
        };
        std::mem::take(&mut *rung)
    }
}

/// Reads content for the first time.
///
/// Content that changes in the meantime is read again, so that a page and its style sheet belong to
/// the same revision.
pub fn first(options: &Options, limits: &scan::Limits) -> anyhow::Result<Loaded> {
    let docroot = options.docroot();
    if let Some(loaded) = at_rest(&docroot, limits, &options.policy, TRIES - 1, None)? {
        return Ok(loaded);
    }
    tracing::warn!("{} keeps changing while it is read", docroot.path().display());
    docroot.load(limits, &options.policy, None)
}

/// Reads until nothing has changed during the reading; `None` if that does not happen.
fn at_rest(
    docroot: &DocRoot,
    limits: &scan::Limits,
    policy: &Policy,
    tries: usize,
    old: Option<&Content>,
) -> anyhow::Result<Option<Loaded>> {
    for _ in 0..tries {
        let loaded = docroot.load(limits, policy, old)?;
        if docroot.look(threads()).is_ok_and(|look| look == loaded.look) {
            return Ok(Some(loaded));
        }
    }
    Ok(None)
}

/// The thread that follows the content.
#[derive(Debug)]
pub struct Follower {
    shared: Arc<Shared>,
    bell: Arc<Bell>,
    /// The options that the content was read with.
    options: Options,
    /// The most files that stay open.
    open_files: usize,
    /// Reads the options again: flags, environment, file.
    reread: fn() -> anyhow::Result<Options>,
    decision: Decision,
    /// The moment at which the served state was read for the first time.
    read_at: Instant,
    /// Lines that were logged, so that no line is repeated.
    told: HashSet<String>,
}

impl Follower {
    /// Starts with content that has been read.
    #[must_use]
    pub fn new(
        shared: Arc<Shared>,
        bell: Arc<Bell>,
        options: Options,
        limits: &scan::Limits,
        reread: fn() -> anyhow::Result<Options>,
        loaded: &Seen,
    ) -> Self {
        let decision = Decision {
            served: loaded.look,
            is_doubtful: loaded.is_doubtful,
            last: None,
            bad: None,
        };
        let told = loaded.notes.iter().cloned().collect();
        let open_files = limits.open_files;
        let read_at = loaded.at;
        Self { shared, bell, options, open_files, reread, decision, read_at, told }
    }

    /// Follows forever.
    pub fn run(mut self) -> ! {
        let mut pause = self.options.poll;
        loop {
            if self.bell.wait(pause) {
                self.reload();
            }
            pause = self.options.poll.map(|poll| poll.max(self.look()));
        }
    }

    /// Checks the document root, and reads it if it is time; returns the shortest time until the
    /// next check.
    fn look(&mut self) -> Duration {
        let docroot = self.options.docroot();
        let start = Instant::now();
        let look = docroot.look(1);
        let looked = start.elapsed();
        match look {
            Ok(look) if self.decision.is_time(look) => {
                match self.load_again() {
                    Ok(true) => {}
                    // The content changed while it was read, so the next check comes soon.
                    Ok(false) => self.decision.last = None,
                    Err(error) => {
                        self.decision.could_not_read(look);
                        self.failed(&error);
                    }
                }
                let loaded = start.elapsed().saturating_sub(looked);
                return (looked * LOOK_FACTOR).max(loaded * LOAD_FACTOR);
            }
            Ok(_) => {}
            // The old content stays, because a revision may be missing only for a moment.
            Err(error) => {
                self.tell(&format!("{error:#}; the old content stays"));
                self.shared.set_whole(false);
                self.decision.is_doubtful = true;
            }
        }
        looked * LOOK_FACTOR
    }

    /// Reads settings and content again. An error changes nothing.
    ///
    /// Content that changes during the reading is read again here, because without polling no check
    /// follows.
    fn reload(&mut self) {
        match (self.reread)().and_then(|options| self.load(options, TRIES, None)) {
            Ok(true) => {}
            Ok(false) => {
                self.failed(&anyhow::anyhow!("the content keeps changing while it is read"));
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &anyhow::Error) {
        self.shared.failed_reloads.fetch_add(1, Ordering::Relaxed);
        tracing::error!("{error:#}; the old settings and content stay");
    }

    /// Reads content once with the same options. A host whose site cannot be read does not stop the
    /// others.
    fn load_again(&mut self) -> anyhow::Result<bool> {
        let (_, state) = self.shared.state();
        self.load(self.options.clone(), 1, Some(&state.content))
    }

    /// Reads content, and adopts the options if that succeeds. Returns false if the content changed
    /// during every reading.
    fn load(
        &mut self,
        options: Options,
        tries: usize,
        old: Option<&Content>,
    ) -> anyhow::Result<bool> {
        self.make_room();
        let limits = scan::Limits { memory: options.memory_limit, open_files: self.open_files };
        let loaded = at_rest(&options.docroot(), &limits, &options.policy, tries, old)?;
        let Some(loaded) = loaded else { return Ok(false) };
        self.options = options;
        self.publish(loaded);
        Ok(true)
    }

    /// Waits until slow readers of content older than the current one are cut, so that three
    /// versions are never in memory at once. Each worker needs a turn for that; the wait is
    /// bounded, because a worker may hang.
    fn make_room(&self) {
        for _ in 0..CUT_LOOKS {
            if !self.shared.cut_retired() {
                return;
            }
            std::thread::sleep(CUT_PAUSE);
        }
    }

    fn publish(&mut self, loaded: Loaded) {
        for note in &loaded.notes {
            self.tell(note);
        }
        let mut seen = Seen::of(&loaded);
        if seen.look == self.decision.served {
            seen.is_doubtful &= seen.at.saturating_duration_since(self.read_at) < DOUBT;
        } else {
            self.read_at = seen.at;
        }
        self.decision.served = seen.look;
        self.decision.last = None;
        self.decision.is_doubtful = seen.is_doubtful || loaded.unread > 0;
        if loaded.unread > 0 {
            self.decision.could_not_read(seen.look);
        } else {
            self.decision.bad = None;
        }
        let is_whole = loaded.is_whole();
        let paths: usize = loaded.content.sites().map(|site| site.entries.len()).sum();
        let limits = self.options.limits.clone();
        self.shared.publish(State { content: loaded.content, limits, is_whole });
        tracing::info!(paths, "{} has been read again", self.options.docroot().path().display());
    }

    fn tell(&mut self, note: &str) {
        if self.told.insert(note.to_owned()) {
            tracing::warn!("{note}");
        }
    }
}

/// The facts about content that was read.
#[derive(Debug, Clone)]
pub struct Seen {
    look: Look,
    at: Instant,
    is_doubtful: bool,
    notes: Vec<String>,
}

impl Seen {
    /// Returns the facts about content that was just read.
    #[must_use]
    pub fn of(loaded: &Loaded) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let now = i128::try_from(now).unwrap_or(i128::MAX);
        Self {
            look: loaded.look,
            at: Instant::now(),
            is_doubtful: is_doubtful(loaded.newest, now),
            notes: loaded.notes.clone(),
        }
    }
}

/// True if another change could have the same time as the latest one, both in nanoseconds since
/// 1970. A time in the future, from a host whose clock is ahead, is always doubtful; content that
/// is still the same when it is read again later is not, whatever its times are.
fn is_doubtful(newest: i128, now: i128) -> bool {
    newest > now - i128::try_from(DOUBT.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests;
