//! Waits for the data partition, and puts it in its place.
//!
//! A thread does all that touches a disk. A search normally has 30 seconds; a thread that makes or
//! mends a partition announces how long that can take, and then the boot waits knowingly: it feeds
//! the watchdog and says so on the console. A node whose policy requires the partition waits for a
//! disk as long as it takes.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kiln_base::time::timespec;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::UnmountFlags;

use super::mounts;
use crate::console::kmsg;
use crate::machine::watchdog;
use crate::process::deadline;
use crate::settings::data::DataPolicy;
use crate::shutdown::{end, signals};
use crate::storage::data::{self, Found};
use crate::storage::grow;
use crate::storage::mounted::{self, MOUNT_POINT, Mounted, OPT_MOUNT_POINT};

/// The time limit for finding and mounting the partition, replaying ext4's journal on a slow disk
/// included.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The time between two searches for a required partition.
pub const RETRY: Duration = Duration::from_secs(2);

/// The time before a required partition that cannot be used is tried again.
pub const UNUSABLE_RETRY: Duration = Duration::from_mins(1);

/// The time between two lines about work that takes long.
const REMIND: Duration = Duration::from_mins(1);

/// Work that takes longer than a search.
#[derive(Debug)]
pub struct Busy {
    work: String,
    limit: Duration,
}

/// A search in a thread.
#[derive(Debug)]
pub struct Pending<T> {
    result: Receiver<T>,
    busy: Receiver<Busy>,
}

/// Starts `search` in a thread. It gets a sender for the work that takes longer.
pub fn begin<T: Send + 'static>(
    search: impl FnOnce(&Sender<Busy>) -> T + Send + 'static,
    undo: impl FnOnce(T) + Send + 'static,
) -> Result<Pending<T>> {
    let (announce, busy) = mpsc::channel();
    let result = deadline::begin("data", move || search(&announce), undo)?;
    Ok(Pending { result, busy })
}

/// Searches for the partition, and announces what takes longer. Runs in the thread.
#[must_use]
pub fn find(policy: &DataPolicy, busy: &Sender<Busy>) -> Found {
    let announce = |work: &str, limit: Duration| {
        kmsg::notice(format_args!("{work}; this may take {} minutes", limit.as_secs() / 60));
        let _ = busy.send(Busy { work: work.to_owned(), limit });
    };
    data::find_and_mount(policy, &announce)
}

/// Unmounts what a search has mounted too late.
pub fn undo(found: &Found) {
    if let Found::Mounted(mounted) = found {
        mounted::undo(mounted);
    }
}

impl<T> Pending<T> {
    /// Waits for the result, for [`DEADLINE`] and for the time that was announced. Feeds the
    /// watchdog. `None` if there is no result in time, or the thread is gone.
    #[must_use]
    pub fn wait(&self) -> Option<T> {
        let mut limit = Instant::now() + DEADLINE;
        let mut busy: Option<(Busy, Instant)> = None;
        loop {
            let now = Instant::now();
            let slice = limit.saturating_duration_since(now).min(watchdog::FEED);
            match self.result.recv_timeout(slice) {
                Ok(result) => return Some(result),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => watchdog::feed(),
            }
            while let Ok(news) = self.busy.try_recv() {
                limit = Instant::now() + news.limit + DEADLINE;
                busy = Some((news, Instant::now()));
            }
            if let Some((news, since)) = &mut busy
                && since.elapsed() >= REMIND
            {
                kmsg::notice(format_args!("still busy: {}", news.work));
                *since = Instant::now();
            }
            if Instant::now() >= limit {
                return None;
            }
        }
    }

    /// Waits for the result as long as it takes, because another search would hang too.
    #[must_use]
    pub fn wait_forever(&self) -> T {
        loop {
            if let Some(result) = self.wait() {
                return result;
            }
            kmsg::error("data partition: disks do not answer; waiting for them (data.required)");
        }
    }
}

/// Waits for a required partition as long as it takes. `why` says what the last search lacked, and
/// `pause` the time before the next search.
///
/// A shutdown can be requested meanwhile. The power button has no driver yet.
pub fn insist(policy: &DataPolicy, why: String, pause: Duration) -> Result<Mounted> {
    let signals = signals::take().context("cannot take signals")?;
    let mut told = String::new();
    let (mut why, mut pause) = (why, pause);
    loop {
        if told != why {
            kmsg::error(format_args!("{why}; the node starts no pod without it (data.required)"));
            told.clone_from(&why);
        }
        pass(pause, &signals);
        pause = RETRY;
        let policy = policy.clone();
        let search = move |busy: &Sender<Busy>| {
            if data::bring_up_disks() { find(&policy, busy) } else { Found::no_disk() }
        };
        let pending = begin(search, |found| undo(&found))?;
        match pending.wait_forever() {
            Found::Mounted(mounted) => return Ok(mounted),
            Found::None(reason) => why = reason,
        }
    }
}

/// Lets time pass, feeds the watchdog, and goes down if a shutdown is requested.
fn pass(time: Duration, signals: &OwnedFd) {
    let until = Instant::now() + time;
    loop {
        watchdog::feed();
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let mut fds = [PollFd::new(signals, PollFlags::IN)];
        let _ = poll(&mut fds, Some(&timespec(left.min(watchdog::FEED))));
        let asked = signals::pending(signals);
        if let Some(power) = asked.iter().find_map(|signal| signals::request(signal.number)) {
            end::down(power);
        }
    }
}

/// Moves the partition to `/var` and its folder to `/opt`, and has its file system grown.
pub fn put(mounted: &Mounted) -> Result<()> {
    rustix::mount::mount_move(MOUNT_POINT, "/var")
        .context("cannot move the data partition to /var")?;
    if mounted.opt {
        // It is empty, because containerd and pods come later.
        let _ = rustix::mount::unmount("/opt", UnmountFlags::DETACH);
        let moved = rustix::mount::mount_move(OPT_MOUNT_POINT, "/opt");
        let _ = kmsg::warn_on_error(moved.context("cannot move /opt"));
    }
    kmsg::notice(format_args!("/var is on {}", mounted.device.display()));
    if mounted.grows {
        grow::start(&mounted.device);
    }
    Ok(())
}

/// Takes the partition away from `/var` and `/opt` again, and mounts an empty `/opt`.
pub fn leave() -> Result<()> {
    rustix::mount::unmount("/var", UnmountFlags::DETACH).context("cannot unmount /var")?;
    // It fails if `/opt` is in memory already, in which case the new mount does no harm.
    let _ = rustix::mount::unmount("/opt", UnmountFlags::DETACH);
    mounts::make_opt()
}
