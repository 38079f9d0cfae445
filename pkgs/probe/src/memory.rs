//! The node's memory, by consumer.

use std::fs;

use anyhow::{Context, Result};

use crate::node;

/// Fields of `/proc/meminfo` on the page, besides the two that give `in-use`.
const FIELDS: [&str; 10] = [
    "MemFree",
    "Cached",
    "Shmem",
    "AnonPages",
    "Mapped",
    "Slab",
    "SUnreclaim",
    "KernelStack",
    "PageTables",
    "Percpu",
];

/// Lists one figure per line in KiB; `in-use` is `MemTotal` − `MemAvailable`.
pub(crate) fn list() -> Result<String> {
    let info = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let field = |name: &str| kib(&info, name);
    let total = field("MemTotal").context("/proc/meminfo has no MemTotal")?;
    let available = field("MemAvailable").context("/proc/meminfo has no MemAvailable")?;
    let mut lines = vec![
        format!("in-use {}", total.saturating_sub(available)),
        format!("MemTotal {total}"),
        format!("MemAvailable {available}"),
    ];
    lines.push(format!("logs {}", node::used_by_files("var/log/pods")? / 1024));
    lines.extend(FIELDS.iter().filter_map(|name| Some(format!("{name} {}", field(name)?))));
    lines.extend(file_systems()?);
    lines.extend(processes()?);
    Ok(node::text(&lines))
}

fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Lists the in-memory file systems of the host.
fn file_systems() -> Result<Vec<String>> {
    let mounts = fs::read_to_string("/proc/1/mounts").context("cannot read /proc/1/mounts")?;
    let mut lines = Vec::new();
    for (at, kind) in in_memory(&mounts) {
        let bytes = node::used_by_files(at.trim_start_matches('/'))?;
        lines.push(format!("{kind} {at} {}", bytes / 1024));
    }
    Ok(lines)
}

fn in_memory(mounts: &str) -> Vec<(&str, &str)> {
    let fields = mounts.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    fields
        .filter_map(|fields| Some((*fields.get(1)?, *fields.get(2)?)))
        .filter(|(at, kind)| {
            matches!(*kind, "tmpfs" | "ramfs")
                && !at.contains("/kubelet/pods/")
                && !at.contains("/containerd/")
        })
        .collect()
}

/// Lists the resident and the proportional size of each process except kernel threads, largest first.
fn processes() -> Result<Vec<String>> {
    let mut sizes: Vec<(u64, String)> = Vec::new();
    for process in node::all_processes()? {
        // The process may have ended.
        let Ok(rollup) = fs::read_to_string(format!("/proc/{}/smaps_rollup", process.pid)) else {
            continue;
        };
        let (Some(rss), Some(pss)) = (kib(&rollup, "Rss"), kib(&rollup, "Pss")) else { continue };
        sizes.push((pss, format!("process {} rss {rss} pss {pss}", process.name)));
    }
    sizes.sort_by(|a, b| b.cmp(a));
    Ok(sizes.into_iter().map(|(_, line)| line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_found_by_its_whole_name() {
        let text = "MemTotal:  1000 kB\nMem:  5 kB\nSwapCached: 1 kB\nCached:   7 kB\n";
        assert_eq!(
            (kib(text, "Mem"), kib(text, "Cached"), kib(text, "Slab")),
            (Some(5), Some(7), None)
        );
    }

    #[test]
    fn file_systems_of_pods_are_left_out() {
        let mounts = "none / erofs ro 0 0\ntmpfs /run tmpfs rw 0 0\ntmpfs /var/lib/kubelet/pods/1/v tmpfs rw 0 0\n";
        assert_eq!(in_memory(mounts), [("/run", "tmpfs")]);
    }
}
