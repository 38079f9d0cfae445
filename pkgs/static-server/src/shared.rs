//! The state that all threads share: the current content, readiness, and counters.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use kiln_server::access::AccessLog;
use kiln_server::ops;
use kiln_server::threads::Wakers;

use crate::answer::{Answer, Serving, Source, plain};
use crate::connection::{About, Limits};
use crate::content::Content;
use crate::index::Index;
use crate::index::store::Store;
use crate::request::{Head, Method, Target};
use crate::status::Status;

/// The content and the limits that are in force; replaced as a whole.
#[derive(Debug)]
pub struct State {
    /// The content.
    pub content: Content,
    /// Sizes and times.
    pub limits: Limits,
    /// True if all of the content could be read.
    pub is_whole: bool,
}

/// Memory of earlier states.
#[derive(Debug)]
enum Retired {
    Index(Weak<Index>),
    Store(Weak<Store>),
}

impl Retired {
    fn is_used(&self) -> bool {
        match self {
            Self::Index(index) => index.strong_count() > 0,
            Self::Store(store) => store.strong_count() > 0,
        }
    }
}

/// The state that all threads share.
#[derive(Debug)]
pub struct Shared {
    state: Mutex<Arc<State>>,
    /// Grows with every new state.
    generation: AtomicU64,
    /// Answers made from states before this number are cut.
    oldest: AtomicU64,
    /// Content of earlier states that answers under way may still use.
    retired: Mutex<Vec<Retired>>,
    ready: AtomicBool,
    leaving: AtomicBool,
    stopping: AtomicBool,
    /// Wakes the workers.
    pub wakers: Wakers,
    /// One for each worker.
    pub counters: Vec<Counters>,
    /// The number of states that could not be built.
    pub failed_reloads: AtomicU64,
    /// The access log, if there is one.
    pub log: Option<Arc<AccessLog>>,
}

/// The counters of one worker, which only that worker writes.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections that were accepted.
    pub accepted: Counter,
    /// Connections that are open.
    pub open: Counter,
    /// Answers, by the first digit of their status, from 1.
    pub answers: [Counter; 5],
    /// Bytes of finished answers.
    pub bytes: Counter,
    /// Connections that were closed to make room for others.
    pub evicted: Counter,
    /// Answers that were cut, because the client accepted nothing for too long or the content was
    /// gone.
    pub cut: Counter,
}

/// A number that one thread writes and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to the number. Only the owning thread may call this.
    pub fn add(&self, count: u64) {
        self.0.store(self.get().wrapping_add(count), Ordering::Relaxed);
    }

    /// Sets the number. Only the owning thread may call this.
    pub fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    /// Returns the number.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Starts with a state, for as many workers as there are wakers.
    #[must_use]
    pub fn new(state: State, wakers: Wakers, log: Option<Arc<AccessLog>>) -> Self {
        let counters = (0..wakers.workers()).map(|_| Counters::default()).collect();
        Self {
            ready: AtomicBool::new(state.is_whole),
            state: Mutex::new(Arc::new(state)),
            generation: AtomicU64::new(1),
            oldest: AtomicU64::new(0),
            retired: Mutex::default(),
            leaving: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            wakers,
            counters,
            failed_reloads: AtomicU64::new(0),
            log,
        }
    }

    /// Returns the current state and its number.
    #[must_use]
    pub fn state(&self) -> (u64, Arc<State>) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (self.generation(), Arc::clone(&state))
    }

    /// Returns the number of the current state.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Returns the number of the oldest state whose answers are not cut.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.oldest.load(Ordering::Acquire)
    }

    /// Replaces the state.
    ///
    /// Answers under way keep the content that they started with, so until they end, content takes
    /// up to twice the memory. It never takes three times the memory: see [`Self::cut_retired`].
    pub fn publish(&self, state: State) {
        let kept: HashSet<_> = state.content.sites().map(Arc::as_ptr).collect();
        let stores = |state: &State| -> Vec<Arc<Store>> {
            let all = state.content.sites().flat_map(|site| site.own_stores());
            all.filter(|store| store.memory_bytes() > 0).cloned().collect()
        };
        let kept_stores: HashSet<_> = stores(&state).iter().map(Arc::as_ptr).collect();
        self.ready.store(state.is_whole, Ordering::Release);
        let mut current = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, Arc::new(state));
        self.generation.fetch_add(1, Ordering::AcqRel);
        drop(current);
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = old.content.sites().filter(|site| !kept.contains(&Arc::as_ptr(site)));
        retired.extend(gone.map(|site| Retired::Index(Arc::downgrade(site))));
        let stores = stores(&old);
        let gone = stores.iter().filter(|store| !kept_stores.contains(&Arc::as_ptr(store)));
        retired.extend(gone.map(|store| Retired::Store(Arc::downgrade(store))));
        drop(retired);
        self.wakers.wake();
    }

    /// Returns the number of sites and stores of earlier states that answers under way still use.
    pub fn in_use(&self) -> usize {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(Retired::is_used);
        retired.len()
    }

    /// Cuts the answers that still use content of earlier states; returns false if there are no
    /// such answers.
    ///
    /// Must be called before more content is read.
    pub fn cut_retired(&self) -> bool {
        if self.in_use() == 0 {
            return false;
        }
        // Only the calling thread publishes states.
        let now = self.generation();
        if self.oldest.swap(now, Ordering::AcqRel) != now {
            self.wakers.wake();
        }
        true
    }

    /// Records whether all of the content can be read.
    pub fn set_whole(&self, is_whole: bool) {
        self.ready.store(is_whole, Ordering::Release);
    }

    /// True if all of the content can be read and the server is not about to stop.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && !self.leaving.load(Ordering::Acquire)
    }

    /// Makes the server not ready, because it will stop soon.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Tells all workers to stop.
    pub fn stop(&self) {
        self.leave();
        self.stopping.store(true, Ordering::Release);
        self.wakers.wake();
    }

    /// True if the workers must stop.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

impl State {
    /// True if an answer with this memory costs nothing besides the content of this state: the state
    /// has the same body, or the body is in an open file.
    #[must_use]
    pub fn shares(&self, source: &Source) -> bool {
        match source {
            Source::Nothing => true,
            Source::Index(index) => self.content.sites().any(|site| Arc::ptr_eq(site, index)),
            Source::Store(store) if store.memory_bytes() == 0 => true,
            Source::Store(store) => {
                let mut all = self.content.sites().flat_map(|site| site.own_stores());
                all.any(|own| Arc::ptr_eq(own, store))
            }
        }
    }

    /// Returns the content for answers, with readiness and the time in seconds since 1970.
    #[must_use]
    pub const fn serving(&self, ready: bool, now: u64) -> Serving<'_> {
        Serving { content: &self.content, ready, now }
    }
}

impl About for Shared {
    fn answer(&self, head: &Head<'_>) -> Answer {
        let Target::Path { path, .. } = &head.target else {
            return plain(Status::NotFound, head.method);
        };
        if !matches!(head.method, Method::Get | Method::Head) {
            return plain(Status::MethodNotAllowed, head.method);
        }
        match ops::page(path, self.is_ready(), || self.metrics()) {
            Some(page) => {
                let fields = "Cache-Control: no-store\r\n";
                Answer::text(page.status, fields, page.text, head.method)
            }
            None => plain(Status::NotFound, head.method),
        }
    }
}
