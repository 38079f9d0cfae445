//! The processor time and memory of processes, as the kernel counts them (proc(5)).

use std::fs;

use anyhow::{Context, Result};

/// Memory of some processes in KiB, each page shared out among those that map it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// All memory, mapped files of the page cache included.
    pub proportional: u64,
    /// Anonymous and shared memory, which is freed only when the program exits.
    pub held: u64,
}

/// Returns a process and all its living descendants.
pub fn family(parent: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // The process may have exited in the meantime.
        let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else { continue };
        parents.extend(parent_of(&stat).map(|parent| (id, parent)));
    }
    let mut found = vec![parent];
    let mut at = 0;
    while let Some(&one) = found.get(at) {
        found.extend(parents.iter().filter(|(_, parent)| *parent == one).map(|(id, _)| *id));
        at += 1;
    }
    Ok(found)
}

/// Returns the fourth field. The second one is the name in parentheses, which may contain anything.
fn parent_of(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Returns the nanoseconds that these processes have spent on a processor, in user and kernel mode.
///
/// The values come from `schedstat`, because `stat` counts only ticks. They include the network work
/// that the kernel does at once for a sender, for every server alike.
pub fn processor(ids: &[u32]) -> Result<u64> {
    let mut nanos = 0;
    for id in ids {
        let tasks = format!("/proc/{id}/task");
        for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
            let path = task?.path().join("schedstat");
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let first = text.split(' ').next().and_then(|first| first.parse::<u64>().ok());
            nanos += first.with_context(|| format!("{} has no number", path.display()))?;
        }
    }
    Ok(nanos)
}

/// Returns the memory of these processes.
pub fn memory(ids: &[u32]) -> Result<Memory> {
    let mut sum = Memory::default();
    for id in ids {
        let path = format!("/proc/{id}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let one = rollup(&text).with_context(|| format!("{path} lacks a line"))?;
        sum.proportional += one.proportional;
        sum.held += one.held;
    }
    Ok(sum)
}

/// Returns the largest resident memory of a process since its start in KiB (`VmHWM`).
pub fn peak(id: u32) -> Result<u64> {
    let path = format!("/proc/{id}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let word = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    word.with_context(|| format!("{path} has no VmHWM"))
}

fn rollup(text: &str) -> Option<Memory> {
    let line = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.split_whitespace().next()?.parse::<u64>().ok()
    };
    Some(Memory { proportional: line("Pss:")?, held: line("Pss_Anon:")? + line("Pss_Shmem:")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_found_behind_any_name() {
        assert_eq!(parent_of("12 (a) b) S 7 12 12 0"), Some(7));
        assert_eq!(parent_of("12"), None);
    }

    #[test]
    fn anonymous_and_shared_pages_are_held() {
        let text = "0-1 ---p [rollup]\nRss: 90 kB\nPss:  50 kB\nPss_Anon: 20 kB\nPss_File: 27 kB\nPss_Shmem: 3 kB\n";
        assert_eq!(rollup(text), Some(Memory { proportional: 50, held: 23 }));
        assert_eq!(rollup("Rss: 1 kB\n"), None);
    }

    #[test]
    fn this_process_has_used_a_processor() {
        let me = std::process::id();
        assert!(family(me).unwrap().contains(&me));
        assert!(processor(&[me]).unwrap() > 0 && memory(&[me]).unwrap().held > 0);
        assert!(peak(me).unwrap() >= memory(&[me]).unwrap().held);
    }
}
