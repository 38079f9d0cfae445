//! State shared by the main loop and the log's threads.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::kernel::RECORD_MAX;
use super::ring::Ring;

/// The bytes kept of each service while the disk is slow.
pub(super) const PLACES: usize = 256 * 1024;

/// The bytes kept of the kernel's and PID 1's lines: few, because the kernel keeps them too.
const KERNEL_PLACES: usize = 64 * 1024;

/// The state under the lock.
#[derive(Debug)]
pub(super) struct State {
    /// One ring per service, then the kernel's, then PID 1's.
    pub(super) rings: Vec<Ring>,
}

#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    pub(super) changed: Condvar,
    pub(super) closing: AtomicBool,
}

/// The writer's next action.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Work {
    Write,
    Closed,
}

impl Shared {
    pub(super) fn new(services: usize) -> Arc<Self> {
        let rings = (0..services).map(|_| Ring::new(PLACES));
        let rings = rings.chain((0..2).map(|_| Ring::new(KERNEL_PLACES))).collect();
        let (state, changed) = (Mutex::new(State { rings }), Condvar::new());
        Arc::new(Self { state, changed, closing: AtomicBool::new(false) })
    }

    /// Takes the lock, poisoned or not: the rings have no invariant that a panic could break.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// True if another record of the kernel's log fits, from any author. A record that does not fit
    /// stays in the kernel's memory.
    pub(super) fn has_room_for_records(&self) -> bool {
        let state = self.lock();
        !self.is_closing()
            && state.rings.iter().rev().take(2).all(|ring| ring.room() >= 4 * RECORD_MAX)
    }

    /// Waits until a ring has bytes, or until there will be no more.
    pub(super) fn wait_for_work(&self) -> Work {
        let is_idle =
            |state: &mut State| !self.is_closing() && state.rings.iter().all(Ring::is_empty);
        let state = self.changed.wait_while(self.lock(), is_idle);
        let state = state.unwrap_or_else(PoisonError::into_inner);
        if state.rings.iter().all(Ring::is_empty) { Work::Closed } else { Work::Write }
    }
}
