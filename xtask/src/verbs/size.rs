//! `cargo xtask size`

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use clap::Args;
use kiln_host::{print, println};

use super::Target;
use crate::build::Report;
use crate::config::Budget;
use crate::progress::Bytes;

/// Files smaller than this are added up per package.
const SMALL: u64 = 256 * 1024;

#[derive(Debug, Args)]
pub(super) struct Size {
    #[command(flatten)]
    target: Target,
}

impl Size {
    pub(super) fn run(self) -> Result<()> {
        let builder = self.target.open()?;
        let report = builder.image()?.report;
        print!("{}", table(&report));
        let over = over_budget(&report, &builder.config.budget);
        ensure!(over.is_empty(), "over budget: {}", over.join("; "));
        println!("within budget");
        Ok(())
    }
}

/// Every item, largest first, then what the file is made of.
fn table(report: &Report) -> String {
    let mut rows: BTreeMap<(String, String), u64> = BTreeMap::new();
    for item in &report.items {
        let name = if item.bytes < SMALL {
            format!("{}: small files", item.owner)
        } else {
            item.path.clone()
        };
        *rows.entry((item.part.clone(), name)).or_default() += item.bytes;
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by(|(a, a_bytes), (b, b_bytes)| (&a.0, b_bytes, &a.1).cmp(&(&b.0, a_bytes, &b.1)));
    let row = |part: &str, name: &str, bytes: u64| {
        format!("{part:<10}{:>12}  {name}\n", Bytes(bytes).to_string())
    };
    let mut out = String::from("not compressed:\n");
    out.extend(rows.iter().map(|((part, name), bytes)| row(part, name, *bytes)));
    out.push_str("in the file:\n");
    out.extend(report.parts.iter().map(|(part, bytes)| row("", part, *bytes)));
    out.push_str(&row("", "the EFI file", report.bytes));
    out
}

/// What exceeds its budget, in words.
pub(super) fn over_budget(report: &Report, budget: &Budget) -> Vec<String> {
    let mut over = Vec::new();
    let mut check = |what: &str, is: u64, at_most: u64| {
        if is > at_most {
            over.push(format!("{what}: {is}, at most {at_most}"));
        }
    };
    check("bytes of the EFI file", report.bytes, budget.uki_mib * 1024 * 1024);
    let executables =
        report.items.iter().filter(|item| item.part == "root" && item.executable).count();
    check("executables in the root", executables as u64, budget.executables as u64);
    let init = report.items.iter().find(|item| item.part == "archive" && item.path == "/init");
    check("bytes of PID 1", init.map_or(u64::MAX, |item| item.bytes), budget.init_kib * 1024);
    over
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::Item;

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
    }

    #[test]
    fn an_image_without_pid_1_is_over_budget() {
        let mut report = report(0, 0, 0);
        report.items.clear();
        let budget = Budget { uki_mib: 1, uki_limit_mib: 2, executables: 2, init_kib: 1 };
        assert_eq!(over_budget(&report, &budget).len(), 1);
    }
}
