//! Gathers the credentials, and mounts `/var`: the data partition if there is one, else a tmpfs.
//!
//! A thread with a deadline does all that touches a disk.

use std::sync::mpsc::{self, Receiver, Sender};

use anyhow::{Context, Result};

use super::archive::Loading;
use super::credentials::{self, Gathered};
use super::fill;
use super::partition::{self, Busy, DEADLINE, Pending};
use super::proof::{Groups, Tree};
use crate::console::kmsg;
use crate::machine::credential::Credentials;
use crate::process::deadline;
use crate::storage::data::{Found, bring_up_disks};
use crate::storage::var::Var;

/// A search for credentials and for the data partition that runs in a thread.
#[derive(Debug)]
pub struct Search {
    /// Receives a message when the archive's modules are loaded.
    loaded: Receiver<()>,
    /// Receives the settings that need no disk.
    early: Receiver<Gathered>,
    /// The settings, if a disk changed them, and the partition.
    found: Pending<(Gathered, Found)>,
}

/// Starts the search. It begins when the archive's modules are loaded.
///
/// The proofs are needed because drivers are in the root, the partition is mounted below `/run`,
/// and the helper that loads drivers runs in a control group.
pub fn search(
    _: &Tree,
    _: &Groups,
    modules: Loading,
    mut credentials: Credentials,
) -> Result<Search> {
    let (told, loaded) = mpsc::sync_channel(1);
    let (told_early, early) = mpsc::sync_channel(1);
    let look = move |busy: &Sender<Busy>| {
        modules.join();
        let _ = told.send(());
        let gathered = credentials::gather(&mut credentials);
        let _ = told_early.send(gathered.clone());
        if !bring_up_disks() {
            return (gathered, Found::no_disk());
        }
        let gathered = credentials::gather_from_disk(credentials, gathered);
        let found = partition::find(&gathered.settings.data, busy);
        (gathered, found)
    };
    // Called if the boot has stopped waiting.
    let undo = |(_, found): (Gathered, Found)| partition::undo(&found);
    Ok(Search { loaded, early, found: partition::begin(look, undo)? })
}

impl Search {
    /// Waits until the archive's modules are loaded.
    pub fn wait_for_modules(&self) -> Result<()> {
        deadline::end(&self.loaded, DEADLINE).context("the archive's modules do not load")
    }

    /// Waits for the end of the search and mounts `/var`.
    pub fn attach(self, size: &str) -> Result<(Var, Gathered)> {
        let (mut gathered, found) = self.found.wait().unwrap_or_else(|| {
            let gathered = self.early.try_recv().unwrap_or_default();
            if gathered.settings.data.required {
                return self.found.wait_forever();
            }
            (gathered, Found::None("disks do not answer".to_owned()))
        });
        gathered.keep();
        let mounted = match found {
            Found::Mounted(mounted) => mounted,
            Found::None(why) if gathered.settings.data.required => {
                partition::insist(&gathered.settings.data, why, partition::RETRY)?
            }
            Found::None(why) => {
                kmsg::notice(format_args!("{why}; /var is in memory"));
                fill::mount_memory(size)?;
                return Ok((Var::Memory, gathered));
            }
        };
        partition::put(&mounted)?;
        Ok((Var::Partition, gathered))
    }
}
