//! The helper `kiln-disk-links`: makes the links of the disks that it gets, or of all disks.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::Result;
use kiln_contract::path::{DISK_LINKS, DISK_LINKS_LOCK};
use rustix::fs::{FlockOperation, flock};

use super::facts::{Block, OnDisk};
use super::links::links;
use super::record;
use crate::console::{kmsg, once};
use crate::process::deadline;

const SYSFS: &str = "/sys";
const DEV: &str = "/dev";
const DISK: &str = "/dev/disk";

/// The time that all disks together get to answer. They are read in parallel.
const ANSWER: Duration = Duration::from_secs(10);

/// Runs the helper. `names` are disks and partitions, or empty for all.
#[must_use]
pub fn run(names: &[String]) -> i32 {
    kmsg::open();
    let names: BTreeSet<String> = match names {
        [] => every_name(Path::new(SYSFS)),
        names => names.iter().cloned().collect(),
    };
    i32::from(kmsg::warn_on_error(update(&names)).is_none())
}

fn every_name(sysfs: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(sysfs.join("class/block")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn update(names: &BTreeSet<String>) -> Result<()> {
    let sysfs = Path::new(SYSFS);
    let reading: Vec<(Block, Receiver<OnDisk>)> =
        names.iter().filter_map(|name| Block::find(sysfs, name)).filter_map(begin).collect();
    let limit = Instant::now() + ANSWER;
    let mut found = record::Links::new();
    for (block, answer) in reading {
        let on_disk = deadline::end(&answer, limit.saturating_duration_since(Instant::now()));
        if on_disk.is_none() {
            let name = &block.name;
            once::say(&format!(
                "/dev/{name} does not answer, so it has no links by UUID and label"
            ));
        }
        found.insert(block.name.clone(), links(&block.facts(on_disk.unwrap_or_default())));
    }
    // Another helper may still run after its deadline.
    let lock = File::create(DISK_LINKS_LOCK).ok();
    let _locked = lock.as_ref().map(|lock| flock(lock, FlockOperation::LockExclusive));
    let folder = Path::new(DISK_LINKS);
    let old = record::load(folder);
    let mut new = old.clone();
    new.extend(found);
    let present = every_name(sysfs);
    new.retain(|name, _| present.contains(name));
    record::store(folder, Path::new(DISK), &old, &new)
}

/// Starts to read a device in a thread of its own, so that a device that hangs delays no other.
fn begin(block: Block) -> Option<(Block, Receiver<OnDisk>)> {
    let reader = block.clone();
    let answer = deadline::begin("disk", move || reader.read(Path::new(DEV)), drop);
    kmsg::warn_on_error(answer).map(|answer| (block, answer))
}
