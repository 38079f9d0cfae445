//! Credentials that a privileged pod writes while the node runs.
//!
//! The main loop watches their folder, which is in memory. A credential is taken a moment after the
//! last change, so that several files are applied together and a half-written file is complete. A
//! file that is removed changes nothing.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kiln_contract::path::{CREDENTIALS, LATE_CREDENTIALS};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::console::kmsg;
use crate::machine::credential::{Credentials, Source, store};

/// The time without a change after which the files are taken.
const SETTLE: Duration = Duration::from_secs(1);

/// The watch on the folder.
pub(super) struct Late {
    inotify: OwnedFd,
    due: Option<Instant>,
    /// The warnings of the last look, which would be the same at each look.
    warned: Vec<String>,
}

impl Late {
    /// Watches the folder. Files that are there already count as changed.
    pub(super) fn watch() -> Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .context("cannot make an inotify descriptor")?;
        let changes = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        inotify::add_watch(&inotify, LATE_CREDENTIALS, changes)
            .with_context(|| format!("cannot watch {LATE_CREDENTIALS}"))?;
        Ok(Self { inotify, due: Some(Instant::now()), warned: Vec::new() })
    }

    /// Notes a change.
    pub(super) fn changed(&mut self, now: Instant) {
        let mut events = [0_u8; 4096];
        while rustix::io::read(&self.inotify, &mut events).is_ok_and(|length| length > 0) {}
        self.due = Some(now + SETTLE);
    }

    /// The time of the next look.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Keeps the credentials that are new or different, and returns their names, if a look is due.
    pub(super) fn take(&mut self, now: Instant) -> Vec<String> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.due = None;
        let mut all = Credentials::kept();
        let before: Vec<_> =
            all.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        // A leading dot marks a file that is not complete.
        all.add_folder(Source::Late, Path::new(LATE_CREDENTIALS), |name| {
            (!name.starts_with('.')).then_some(name)
        });
        if all.warnings != self.warned {
            self.warned.clone_from(&all.warnings);
            all.warn();
        }
        let is_new = |name: &str, value: &[u8]| {
            !before.iter().any(|(other, old)| other == name && old == value)
        };
        let new = all.iter().filter(|(name, value)| is_new(name, value));
        new.filter_map(|(name, value)| {
            kmsg::notice(format_args!("credential {name} from {}", Source::Late));
            kmsg::warn_on_error(store(Path::new(CREDENTIALS), name, value))?;
            Some(name.to_owned())
        })
        .collect()
    }
}

impl AsFd for Late {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
