//! `cargo xtask size`

mod modules;
mod table;

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::target::Target;
use crate::build::{Builder, Item, Report, tool};
use crate::config::Budget;
use crate::image::erofs;
use crate::plan::{PODS, ROOT, staged};
use crate::progress::Bytes;
use kiln_host::{print, println};
use table::{Entry, render};

const MIB: u64 = 1024 * 1024;
const KIB: u64 = 1024;

/// Blobs of container images, whose names are digests.
const BLOBS: &str = "/images/blobs/";

#[derive(Debug, Args)]
pub(super) struct Size {
    #[command(flatten)]
    target: Target,
}

/// One upper bound, and the image's figure.
struct Bound {
    name: &'static str,
    is: u64,
    max: u64,
    /// Formats a figure for people.
    show: fn(u64) -> String,
}

impl Size {
    pub(super) fn run(self) -> Result<()> {
        let builder = self.target.open()?;
        let report = builder.image()?.report;
        let entries = entries(&builder, &report)?;
        print!("{}", render(&entries, report.bytes));
        print!("\n{}", modules::render(&modules::groups(&builder, &report, &entries)?));
        println!("\nbudget");
        for bound in bounds(&report, &builder.config.budget) {
            println!("  {}", bound.line());
        }
        let over = over_budget(&report, &builder.config.budget);
        ensure!(over.is_empty(), "over budget: {}", over.join("; "));
        Ok(())
    }
}

impl Bound {
    fn line(&self) -> String {
        format!("{}: {}, at most {}", self.name, (self.show)(self.is), (self.show)(self.max))
    }
}

/// Lists the figures that exceed the budget.
pub(super) fn over_budget(report: &Report, budget: &Budget) -> Vec<String> {
    let over = bounds(report, budget).into_iter().filter(|bound| bound.is > bound.max);
    over.map(|bound| bound.line()).collect()
}

fn bounds(report: &Report, budget: &Budget) -> [Bound; 3] {
    let executables =
        report.items.iter().filter(|item| item.part == "root" && item.executable).count();
    let init = report.items.iter().find(|item| item.part == "archive" && item.path == "/init");
    let bytes = |bytes| Bytes(bytes).to_string();
    [
        Bound { name: "the EFI file", is: report.bytes, max: budget.uki_mib * MIB, show: bytes },
        Bound {
            name: "executables in the root",
            is: executables as u64,
            max: budget.executables as u64,
            show: |count| count.to_string(),
        },
        Bound {
            name: "PID 1",
            is: init.map_or(u64::MAX, |item| item.bytes),
            max: budget.init_kib * KIB,
            show: bytes,
        },
    ]
}

/// Everything in the image, with its size in the file.
fn entries(builder: &Builder, report: &Report) -> Result<Vec<Entry>> {
    let steps = [ROOT.to_owned(), PODS.to_owned(), staged("erofs-utils")];
    let made = builder.make(&steps.each_ref().map(String::as_str))?;
    let dump = tool(&made, "erofs-utils", "dump.erofs")?;
    let task = builder.progress.task("measure", Some(report.items.len() as u64));
    let mut entries = BTreeMap::new();
    for item in &report.items {
        task.advance(1);
        let stored = match item.part.as_str() {
            "root" => erofs::stored(&dump, &made[ROOT].path().join(ROOT), &item.path)?,
            "pods" => erofs::stored(&dump, &made[PODS].path().join(PODS), &item.path)?,
            // The two file systems are in the archive; their files are counted instead.
            _ if is_file_system(&item.path) => continue,
            _ => item.bytes,
        };
        add(&mut entries, item.owner.clone(), shown(item), item.bytes, stored);
    }
    let kernel = *report.parts.get("kernel").context("the report has no size of the kernel")?;
    let package = builder.config.kernel.package().to_owned();
    add(&mut entries, package, "the kernel itself".to_owned(), kernel, kernel);
    task.done();
    Ok(entries.into_values().collect())
}

fn is_file_system(path: &str) -> bool {
    [kiln_contract::archive::ROOT, kiln_contract::archive::PODS].contains(&path)
}

/// The path; of a blob, the package whose container image it belongs to.
fn shown(item: &Item) -> String {
    if item.path.starts_with(BLOBS) {
        return format!("{}'s container image", item.owner);
    }
    item.path.clone()
}

fn add(
    entries: &mut BTreeMap<(String, String), Entry>,
    owner: String,
    name: String,
    raw: u64,
    stored: u64,
) {
    let key = (owner.clone(), name.clone());
    let entry = entries.entry(key).or_insert(Entry { owner, name, raw: 0, stored: 0 });
    entry.raw += raw;
    entry.stored += stored;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(bytes: u64, executables: usize, init: u64) -> Report {
        let item = |part: &str, path: String, bytes: u64| Item {
            part: part.into(),
            path,
            owner: "p".into(),
            bytes,
            executable: true,
        };
        let mut items = vec![item("archive", "/init".into(), init)];
        items.extend((0..executables).map(|n| item("root", format!("/usr/bin/{n}"), 1)));
        Report {
            name: "n".into(),
            arch: "x86_64".into(),
            kernel: "6".into(),
            cmdline: String::new(),
            bytes,
            packages: Vec::new(),
            parts: BTreeMap::new(),
            items,
            configuration: String::new(),
            revision: None,
            layers: Vec::new(),
        }
    }

    #[test]
    fn every_bound_is_inclusive_and_named_when_crossed() {
        let budget = Budget { uki_mib: 1, uki_limit_mib: 2, executables: 2, init_kib: 1 };
        assert!(over_budget(&report(1 << 20, 2, 1024), &budget).is_empty());
        let over = over_budget(&report((1 << 20) + 1, 3, 1025), &budget);
        assert_eq!(over.len(), 3, "{over:?}");
        assert_eq!(over[1], "executables in the root: 3, at most 2");
    }

    #[test]
    fn an_image_without_pid_1_is_over_budget() {
        let mut report = report(0, 0, 0);
        report.items.clear();
        let budget = Budget { uki_mib: 1, uki_limit_mib: 2, executables: 2, init_kib: 1 };
        assert_eq!(over_budget(&report, &budget).len(), 1);
    }
}
