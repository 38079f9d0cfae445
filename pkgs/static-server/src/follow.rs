//! Follows the content: a thread looks at it from time to time and makes a new index when it has
//! changed.
//!
//! It polls. Notification would have to be set up anew for every link that is flipped, and tells
//! nothing on some file systems; a look at a thousand files takes a millisecond. The time between
//! two looks is at least a hundred times what the last one took.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::content::Content;
use crate::folder::scan;
use crate::index::policy::Policy;
use crate::options::Options;
use crate::shared::{Shared, State};
use crate::source::{Loaded, Look, Source};

/// A look may take this part of the time: one processor's hundredth.
const LOOK_FACTOR: u32 = 100;

/// Reading may take this part of the time while the content changes again and again: a tenth.
const LOAD_FACTOR: u32 = 10;

/// How often content that changes while it is read is read at the start and for a SIGHUP.
const TRIES: usize = 10;

/// How often, and after which time each, it is looked whether workers have cut slow readers.
const CUT_LOOKS: usize = 500;
const CUT_PAUSE: Duration = Duration::from_millis(2);

/// What could not be read and looks the same is read again after the first number of looks, then
/// after twice as many each time, up to the second number.
const FIRST_PASS: u32 = 64;
const LAST_PASS: u32 = 4096;

/// A file that was changed so shortly before it was read may change again without any of its
/// times showing it: kernels count file times in ticks of up to 10 ms.
const TICK: i128 = 20_000_000;

/// Decides when to read again. Pure.
#[derive(Debug)]
struct Decision {
    /// What the content that is served looked like.
    served: Look,
    /// It was read so soon after a change that another one could have been missed.
    is_doubtful: bool,
    /// What it looked like last time, if that was not what is served.
    last: Option<Look>,
    /// What could not be read, until something else is seen.
    bad: Option<Bad>,
}

/// What could not be read.
#[derive(Debug, Clone, Copy)]
struct Bad {
    look: Look,
    /// Looks from one reading to the next.
    looks: u32,
    /// How many of them are left.
    left: u32,
}

impl Decision {
    /// Whether to read, now that the source looks like that: it has changed, and has not changed
    /// since the last look.
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

    /// What looked like that could not be read. It is passed over as long as it looks the same,
    /// but not for ever: the reason may have been a lack of memory or descriptors.
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
    /// Asks for settings and content to be read again.
    pub fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.news.notify_one();
    }

    /// Sleeps; true if it was rung meanwhile.
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
/// What changes while it is read is read again, so that no page is of one revision and its style
/// sheet of another.
pub fn first(options: &Options, limits: &scan::Limits) -> anyhow::Result<Loaded> {
    let source = options.source();
    if let Some(loaded) = at_rest(&source, limits, &options.policy, TRIES - 1, None)? {
        return Ok(loaded);
    }
    tracing::warn!("{} does not come to rest", source.path().display());
    source.load(limits, &options.policy, None)
}

/// Reads until nothing has changed meanwhile; none if that does not happen.
fn at_rest(
    source: &Source,
    limits: &scan::Limits,
    policy: &Policy,
    tries: usize,
    old: Option<&Content>,
) -> anyhow::Result<Option<Loaded>> {
    for _ in 0..tries {
        let loaded = source.load(limits, policy, old)?;
        if source.look().is_ok_and(|look| look == loaded.look) {
            return Ok(Some(loaded));
        }
    }
    Ok(None)
}

/// The thread.
#[derive(Debug)]
pub struct Follower {
    shared: Arc<Shared>,
    bell: Arc<Bell>,
    /// What holds: those that the content was read with.
    options: Options,
    /// Most files that stay open.
    open_files: usize,
    /// Reads the options again: flags, environment, file.
    reread: fn() -> anyhow::Result<Options>,
    decision: Decision,
    /// What was logged, so that it is logged once.
    told: HashSet<String>,
}

impl Follower {
    /// Begins with content that was read.
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
        Self { shared, bell, options, open_files, reread, decision, told }
    }

    /// Follows for ever.
    pub fn run(mut self) -> ! {
        let mut pause = self.options.poll;
        loop {
            if self.bell.wait(pause) {
                self.reload();
            }
            pause = self.options.poll.map(|poll| poll.max(self.look()));
        }
    }

    /// Looks, and reads if it is time; returns the least time until the next look.
    fn look(&mut self) -> Duration {
        let source = self.options.source();
        let start = Instant::now();
        let look = source.look();
        let looked = start.elapsed();
        match look {
            Ok(look) if self.decision.is_time(look) => {
                match self.load_again() {
                    Ok(true) => {}
                    // Changed while it was read: the next look comes soon.
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
            // What was read is served on: a revision may be gone for a moment.
            Err(error) => {
                self.tell(&format!("{error:#}; what was read before is served"));
                self.shared.set_whole(false);
                self.decision.is_doubtful = true;
            }
        }
        looked * LOOK_FACTOR
    }

    /// Reads settings and content again; what is wrong changes nothing. Without polling no look
    /// follows, so what changes meanwhile is read again here.
    fn reload(&mut self) {
        match (self.reread)().and_then(|options| self.load(options, TRIES, None)) {
            Ok(true) => {}
            Ok(false) => self.failed(&anyhow::anyhow!("the content does not come to rest")),
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &anyhow::Error) {
        self.shared.failed_reloads.fetch_add(1, Ordering::Relaxed);
        tracing::error!("{error:#}; nothing is changed");
    }

    /// Reads content once for the same options. A host whose site cannot be read holds up no other.
    fn load_again(&mut self) -> anyhow::Result<bool> {
        let (_, state) = self.shared.state();
        self.load(self.options.clone(), 1, Some(&state.content))
    }

    /// Reads content; the options hold from then on, and not if it cannot be read. False if it
    /// changed every time while it was read.
    fn load(
        &mut self,
        options: Options,
        tries: usize,
        old: Option<&Content>,
    ) -> anyhow::Result<bool> {
        self.make_room();
        let limits = scan::Limits { memory: options.memory_limit, open_files: self.open_files };
        let loaded = at_rest(&options.source(), &limits, &options.policy, tries, old)?;
        let Some(loaded) = loaded else { return Ok(false) };
        self.options = options;
        self.publish(loaded);
        Ok(true)
    }

    /// Waits until those are cut who hold content before that of now, so that content is never
    /// held three times. A worker needs a turn for that; one that hangs is not waited for.
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
        let seen = Seen::of(&loaded);
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
        tracing::info!(paths, "{} is read again", self.options.source().path().display());
    }

    fn tell(&mut self, note: &str) {
        if self.told.insert(note.to_owned()) {
            tracing::warn!("{note}");
        }
    }
}

/// What is remembered of content that was read.
#[derive(Debug, Clone)]
pub struct Seen {
    look: Look,
    is_doubtful: bool,
    notes: Vec<String>,
}

impl Seen {
    /// Of content that was read just now.
    #[must_use]
    pub fn of(loaded: &Loaded) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let now = i128::try_from(now).unwrap_or(i128::MAX);
        Self {
            look: loaded.look,
            is_doubtful: loaded.newest > now - TICK - 1_000_000_000,
            notes: loaded.notes.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
