//! Finds, makes, mends and mounts the data partition.
//!
//! [`decide`](super::decide) chooses by the Discoverable Partitions type (UAPI group, DPS) and the
//! node's policy; this module collects the facts and acts. A disk that neither has the type nor is
//! blank is never written.

use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kiln_contract::template::{self, Template};

use super::content::{self, Content};
use super::controllers::{self, Way, controllers, has_scsi_host, way};
use super::decide::{self, Decision};
use super::disk::{self, Disk};
use super::gpt::Partition;
use super::gpt::write::{self, NewTable};
use super::mounted::{self, Announce, Mounted, uuid_bytes};
use super::{drivers, make, partition, signature};
use crate::console::kmsg;
use crate::machine::identity::random_uuid;
use crate::modules::index::may_have_driver;
use crate::settings::data::DataPolicy;

/// The pause between two looks at controllers that show no disk yet.
const LOOK: Duration = Duration::from_millis(10);

/// The time limit for writing the template, whose 256 MiB of zeros are written one by one if the
/// disk has no command for that.
const MAKE: Duration = Duration::from_mins(2);

/// The result of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The partition is mounted at [`mounted::MOUNT_POINT`].
    Mounted(Mounted),
    /// No partition can be used, for this reason.
    None(String),
}

impl Found {
    /// The result on a machine without disks.
    #[must_use]
    pub fn no_disk() -> Self {
        Self::None("no disk".to_owned())
    }
}

/// Has the drivers of disks loaded if that is necessary, and waits for controllers that show their
/// disks later. Returns false if there can be no disk.
pub fn bring_up_disks() -> bool {
    match way(&controllers(), has_scsi_host(), disk::exists(), may_have_driver) {
        Way::None => return false,
        Way::Look => {}
        Way::Load => drop(kmsg::warn_on_error(drivers::load_in_helper())),
    }
    wait_for_controllers();
    true
}

/// Finds the partition or makes it, and mounts it. Runs in a thread, after [`bring_up_disks`].
pub fn find_and_mount(policy: &DataPolicy, announce: &Announce<'_>) -> Found {
    let found = search(policy, announce);
    found.unwrap_or_else(|error| Found::None(format!("{error:#}")))
}

fn search(policy: &DataPolicy, announce: &Announce<'_>) -> Result<Found> {
    let disks = disk::all();
    decide::left_out(&disks).iter().for_each(kmsg::warn);
    let policy = with_device(policy);
    let file =
        if policy.blank || policy.disk.is_some() { make::read_template()? } else { Vec::new() };
    let template = template::parse(&file);
    let look = |disk: &Disk| look(disk, template.as_ref());
    let small = |disk: &Disk| is_small(disk, template.as_ref());
    match decide::decide(&disks, &policy, look, small) {
        Decision::Use(disk, partition) => use_partition(disk, &partition, announce),
        Decision::Make(disk, begun) => {
            let template = template.context("the image has no file system for a new partition")?;
            make_partition(disk, begun, &template, announce)
        }
        Decision::None(why) => Ok(Found::None(why)),
    }
}

/// Waits for controllers that show their disks later, and reports those that show none.
fn wait_for_controllers() {
    let begin = Instant::now();
    loop {
        let empty = controllers::without_disk();
        if empty.iter().all(|one| one.is_given_up(begin.elapsed())) {
            let waited = begin.elapsed() > LOOK;
            for one in empty.iter().filter(|_| waited) {
                kmsg::notice(format_args!("{} shows no disk", one.name));
            }
            return;
        }
        thread::sleep(LOOK);
    }
}

/// Replaces a link in the policy's path by the device that it leads to.
fn with_device(policy: &DataPolicy) -> DataPolicy {
    let mut policy = policy.clone();
    if let Some(path) = policy.disk.as_mut().and_then(|disk| disk.path.as_mut())
        && let Ok(device) = std::fs::canonicalize(&*path)
    {
        *path = device.to_string_lossy().into_owned();
    }
    policy
}

fn look(disk: &Disk, template: Option<&Template<'_>>) -> Content {
    let (Ok(file), Some(template)) = (File::open(disk.device()), template) else {
        return Content::Unreadable;
    };
    content::look(disk.geometry, template, &mut signature::reader(&file))
}

fn is_small(disk: &Disk, template: Option<&Template<'_>>) -> bool {
    let table = NewTable::new(disk.geometry, [0; 16]);
    !table.zip(template).is_some_and(|(table, template)| make::fits(&table, template))
}

/// Makes the partition, or takes up an earlier attempt.
fn make_partition(
    disk: &Disk,
    begun: Option<[u8; 16]>,
    template: &Template<'_>,
    announce: &Announce<'_>,
) -> Result<Found> {
    let id = match begun {
        Some(id) => id,
        None => write::id(uuid_bytes(&random_uuid()?).context("the kernel's UUID is malformed")?),
    };
    let table = NewTable::new(disk.geometry, id).context("the disk is too small")?;
    let again = if begun.is_some() { ", which was cut short," } else { "" };
    announce(&format!("a data partition{again} is made on {}", disk.name), MAKE);
    let file = make::open_alone(disk)?;
    let context = || format!("cannot make a data partition on {}", disk.name);
    make::run(&file, &make::steps(&table, template)).with_context(context)?;
    make::read_again(&file).with_context(context)?;
    drop(file);
    let name = disk.partition(1);
    if disk::bytes(&name).is_none() {
        bail!("the kernel does not show {name}");
    }
    mounted::mount(&name, true, announce).map(Found::Mounted)
}

/// Mounts a partition that exists. The table grows with its disk first.
fn use_partition(disk: &Disk, partition: &Partition, announce: &Announce<'_>) -> Result<Found> {
    let name = disk.partition(partition.number);
    if disk::bytes(&name).is_none() {
        bail!("{} has the partition {name}, but the kernel refuses its table", disk.name);
    }
    if partition.grows() {
        let grown = partition::grow(disk, partition)
            .with_context(|| format!("cannot grow the partition {name}"));
        let _ = kmsg::warn_on_error(grown);
    }
    mounted::mount(&name, partition.grows(), announce).map(Found::Mounted)
}
