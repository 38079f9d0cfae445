//! The choice of the data partition from the facts of all disks and the node's policy. Pure.
//!
//! A guess could start a node on another node's data or destroy a stranger's disk, so everything
//! that is not certain is refused, in one line that says why.

use std::fmt::Display;

use kiln_contract::setting::NODE;

use super::content::Content;
use super::disk::{Disk, Kind, Table};
use super::gpt::Partition;
use crate::settings::data::{DataPolicy, DiskChoice};

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision<'a> {
    /// Use this partition.
    Use(&'a Disk, Partition),
    /// Make a partition on this disk; with this GUID if that has begun already.
    Make(&'a Disk, Option<[u8; 16]>),
    /// Use none, for this reason.
    None(String),
}

/// The GUID of a begun partition if one can be made on a disk, or the reason why not.
type Obstacle = Result<Option<[u8; 16]>, String>;

/// Decides. `look` reads a disk's content, which takes longest, so it is called only for disks on
/// which a partition may be made. `small` is true for a disk that is too small for that.
pub fn decide<'a>(
    disks: &'a [Disk],
    policy: &DataPolicy,
    mut look: impl FnMut(&Disk) -> Content,
    small: impl Fn(&Disk) -> bool,
) -> Decision<'a> {
    let chosen = |disk: &&Disk| policy.disk.as_ref().is_none_or(|choice| fits(choice, disk));
    let usable = |disk: &&'a Disk| {
        let name = *disk;
        partitions(name).filter(|one| refusal(one).is_none()).map(move |one| (name, *one))
    };
    let found: Vec<_> = disks.iter().filter(chosen).flat_map(|disk| usable(&disk)).collect();
    match found[..] {
        [(disk, partition)] => return Decision::Use(disk, partition),
        [] => {}
        _ => return Decision::None(several(&found, policy)),
    }
    if let Some((disk, partition)) = disks.iter().flat_map(|disk| usable(&disk)).next() {
        let name = disk.partition(partition.number);
        let next = "change it, or delete that partition";
        return refuse(
            "data.disk",
            &format!("{name} is the data partition but does not fit"),
            next,
        );
    }
    let mut pool: Vec<&Disk> = disks.iter().filter(chosen).collect();
    if policy.disk.is_some() && pool.is_empty() {
        let found = list(disks.iter().map(|disk| &disk.name), "no disk");
        return refuse("data.disk", &format!("fits none of {found}"), "correct it");
    }
    if policy.disk.is_none() && !policy.blank {
        return Decision::None(nothing(disks));
    }
    let mut contents = Vec::new();
    if policy.blank {
        let judged = pool.iter().map(|disk| (*disk, obstacle(disk, policy, &mut look, &small)));
        contents = judged.collect();
        pool = contents.iter().filter(|(_, why)| why.is_ok()).map(|(disk, _)| *disk).collect();
    }
    match pool[..] {
        [] => Decision::None(no_blank(&contents)),
        [disk] => match obstacle(disk, policy, &mut look, &small) {
            Ok(begun) => Decision::Make(disk, begun),
            Err(why) => {
                let next = "erase it, or choose another disk";
                refuse("data.disk", &format!("{} {why}", disk.name), next)
            }
        },
        _ => too_many(&pool, policy),
    }
}

/// Returns a line for each partition that has the type and is left out because of its flags.
#[must_use]
pub fn left_out(disks: &[Disk]) -> Vec<String> {
    let all = disks.iter().flat_map(|disk| partitions(disk).map(move |one| (disk, one)));
    let refused = all.filter_map(|(disk, one)| {
        let why = refusal(one)?;
        Some(format!("{} is not used: its flag {why}", disk.partition(one.number)))
    });
    let damaged = disks.iter().filter_map(|disk| match disk.table {
        Table::Damaged(error) => Some(format!("{}: {error}", disk.name)),
        _ => None,
    });
    refused.chain(damaged).collect()
}

fn partitions(disk: &Disk) -> impl Iterator<Item = &Partition> {
    match &disk.table {
        Table::Found(found) => &found[..],
        _ => &[],
    }
    .iter()
}

/// Returns the reason why a partition's owner does not want it to be used.
fn refusal(partition: &Partition) -> Option<&'static str> {
    if partition.is_no_auto() {
        Some("no-auto (bit 63) is set")
    } else if partition.is_read_only() {
        Some("read-only (bit 60) is set")
    } else {
        None
    }
}

/// True if all given properties fit.
fn fits(choice: &DiskChoice, disk: &Disk) -> bool {
    let DiskChoice { path, serial, model, size_min } = choice;
    let same = |wanted: &Option<String>, is: &str| {
        wanted.as_ref().is_none_or(|wanted| wanted.trim() == is)
    };
    same(path, &disk.device().to_string_lossy())
        && same(serial, &disk.serial)
        && same(model, &disk.model)
        && size_min.is_none_or(|least| disk.geometry.bytes() >= least)
        && disk.kind != Kind::Volume
}

/// Judges a disk on which a partition may be made.
fn obstacle(
    disk: &Disk,
    policy: &DataPolicy,
    look: &mut impl FnMut(&Disk) -> Content,
    small: &impl Fn(&Disk) -> bool,
) -> Obstacle {
    let why = match &disk.table {
        Table::Unreadable => "cannot be read",
        Table::Damaged(_) => "has a damaged partition table",
        Table::Found(_) => "has a partition table",
        Table::None if disk.in_use => "is in use",
        Table::None if disk.kind == Kind::Volume => "is a volume of other disks",
        Table::None if disk.kind == Kind::Removable && policy.disk.is_none() => "is removable",
        Table::None if disk.read_only => "is read-only",
        Table::None if small(disk) => "is too small",
        Table::None => match look(disk) {
            Content::Blank => return Ok(None),
            Content::Begun(id) => return Ok(Some(id)),
            Content::Foreign(what) => return Err(format!("contains {what}")),
            Content::Unreadable => "cannot be read",
        },
    };
    Err(why.to_owned())
}

fn refuse(key: &str, cause: &str, next: &str) -> Decision<'static> {
    Decision::None(format!("{}: {key}: {cause}; {next}", NODE.name))
}

fn several(found: &[(&Disk, Partition)], policy: &DataPolicy) -> String {
    let names = found.iter().map(|(disk, one)| disk.partition(one.number));
    let names = list(names, "");
    let next = if policy.disk.is_some() { "delete all but one" } else { "choose one by data.disk" };
    format!("{names} are data partitions, so none is used; {next}")
}

fn nothing(disks: &[Disk]) -> String {
    if disks.is_empty() {
        return "no disk".to_owned();
    }
    format!("no data partition on {}", list(disks.iter().map(|disk| &disk.name), ""))
}

fn no_blank(judged: &[(&Disk, Obstacle)]) -> String {
    let told = judged
        .iter()
        .filter_map(|(disk, why)| why.as_ref().err().map(|why| format!("{} {why}", disk.name)));
    let told = list(told, "no disk");
    if judged.is_empty() { told } else { format!("no data partition and no blank disk: {told}") }
}

fn too_many(pool: &[&Disk], policy: &DataPolicy) -> Decision<'static> {
    let names = list(pool.iter().map(|disk| &disk.name), "");
    let key = if policy.disk.is_some() { "data.disk" } else { "data.blank" };
    refuse(key, &format!("fits {names}, so none is used"), "choose one by data.disk")
}

/// Joins words as in a sentence.
fn list(words: impl Iterator<Item = impl Display>, empty: &str) -> String {
    let words: Vec<String> = words.map(|word| word.to_string()).collect();
    if words.is_empty() { empty.to_owned() } else { words.join(", ") }
}

#[cfg(test)]
mod tests;
