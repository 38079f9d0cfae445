//! The node's processes and files, from `/proc` of the host's PID namespace (`hostPID: true`).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, getsid, kill_process};

/// PID 1's root. The kernel follows this link only for a process that may trace PID 1, such as one in a
/// privileged pod.
pub(crate) const ROOT: &str = "/proc/1/root";

/// The control group of all pods.
const PODS: &str = "/kubepods";

/// Folders on the host whose files are kernel interfaces or belong to pods.
const NOT_HOST: [&str; 6] =
    ["/dev", "/proc", "/sys", "/run/containerd", "/var/lib/containerd", "/var/lib/kubelet/pods"];

/// A process of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    /// The executable's file name, or the kernel's name of the process.
    pub(crate) name: String,
    pub(crate) cgroup: String,
}

/// Returns all processes except kernel threads and processes in pods.
pub(crate) fn processes() -> Result<Vec<Process>> {
    let all = all_processes()?;
    Ok(all.into_iter().filter(|process| !process.cgroup.starts_with(PODS)).collect())
}

/// Returns all processes except kernel threads.
pub(crate) fn all_processes() -> Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot read /proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may exit in the meantime.
        if let Some(process) = process(pid) {
            found.push(process);
        }
    }
    Ok(found)
}

fn process(pid: i32) -> Option<Process> {
    let dir = PathBuf::from(format!("/proc/{pid}"));
    let (name, parent) = parse_stat(&fs::read_to_string(dir.join("stat")).ok()?)?;
    // Kernel threads have no executable.
    let executable = fs::read_link(dir.join("exe")).ok()?;
    let cgroup = parse_cgroup(&fs::read_to_string(dir.join("cgroup")).ok()?)?;
    // The kernel adds ` (deleted)` if the file is gone, as PID 1's is.
    let file = executable.file_name().and_then(|name| name.to_str());
    let file = file.map(|name| name.trim_end_matches(" (deleted)").to_owned());
    Some(Process { pid, parent, name: file.unwrap_or(name), cgroup })
}

/// Parses name and parent of `PID (NAME) STATE PARENT …`; the name may contain any character, even `)`.
fn parse_stat(stat: &str) -> Option<(String, i32)> {
    let (head, tail) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let parent = tail.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some((name.to_owned(), parent))
}

/// Parses the path in the cgroup v2 hierarchy, which starts with `/..` inside a cgroup namespace.
fn parse_cgroup(text: &str) -> Option<String> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let inside = path.trim_start_matches("/..");
    Some(if inside.is_empty() { "/".to_owned() } else { inside.to_owned() })
}

/// Lists `NAME  parent PARENT  cgroup CGROUP`, sorted, so that the page is the same on each boot.
pub(crate) fn list_processes() -> Result<String> {
    let processes = processes()?;
    let names: BTreeMap<i32, &str> = processes.iter().map(|p| (p.pid, p.name.as_str())).collect();
    let mut lines: Vec<String> = processes
        .iter()
        .map(|process| {
            let parent = match process.parent {
                0 => "the kernel",
                parent => names.get(&parent).copied().unwrap_or("?"),
            };
            format!("{}  parent {parent}  cgroup {}", process.name, process.cgroup)
        })
        .collect();
    lines.sort();
    Ok(text(&lines))
}

/// Lists `NAME  LIMIT SOFT HARD` for the limits of the host's processes, without duplicates, and those
/// that a pod inherits.
pub(crate) fn list_limits() -> Result<String> {
    let mut lines = Vec::new();
    for process in processes()?.iter().filter(|process| process.pid > 1) {
        lines.extend(limits(&process.name, &format!("/proc/{}/limits", process.pid)));
    }
    lines.extend(limits("a pod", "/proc/self/limits"));
    lines.sort();
    lines.dedup();
    Ok(text(&lines))
}

/// Parses `/proc/PID/limits`: a name of several words, then columns that blanks separate. A process
/// that has ended has none.
fn limits(name: &str, file: &str) -> Vec<String> {
    let found = fs::read_to_string(file).unwrap_or_default();
    let line = |limit: &str| {
        let rest = found.lines().find_map(|line| line.strip_prefix(limit))?;
        let mut columns = rest.split_ascii_whitespace();
        Some(format!("{name}  {limit} {} {}", columns.next()?, columns.next()?))
    };
    ["Max processes", "Max open files", "Max core file size"].into_iter().filter_map(line).collect()
}

/// Finds the one host process with this name. A service leads a session, and its orphans do not.
pub(crate) fn find(name: &str) -> Result<Process> {
    let mut found = processes()?;
    found.retain(|process| process.name == name);
    if found.len() > 1 {
        found.retain(|process| leads_session(process.pid));
    }
    match found.pop() {
        Some(process) if found.is_empty() => Ok(process),
        Some(_) => bail!("several host processes are named {name}"),
        None => bail!("no host process is named {name}"),
    }
}

fn leads_session(pid: i32) -> bool {
    let pid = Pid::from_raw(pid);
    pid.is_some() && getsid(pid).ok() == pid
}

/// Kills the one host process with this name and reports its ID.
pub(crate) fn kill(name: &str) -> Result<String> {
    let process = find(name)?;
    let pid = Pid::from_raw(process.pid).context("process ids are positive")?;
    kill_process(pid, Signal::KILL).with_context(|| format!("cannot kill {name}"))?;
    Ok(format!("killed {}\n", process.pid))
}

/// Returns the timeline of the boot that PID 1 wrote.
pub(crate) fn timeline() -> Result<String> {
    let file = format!("{ROOT}{}", kiln_contract::path::TIMELINE);
    fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))
}

/// Lists the executable regular files below the host's root, without files of pods.
pub(crate) fn list_executables() -> Result<String> {
    let mut lines = Vec::new();
    walk(Path::new(ROOT), &mut |path, meta| {
        if meta.is_file() && meta.permissions().mode() & 0o111 != 0 {
            lines.push(inside(path));
        }
    })?;
    lines.sort();
    Ok(text(&lines))
}

fn inside(path: &Path) -> String {
    path.strip_prefix(ROOT)
        .map_or_else(|_| path.display().to_string(), |p| format!("/{}", p.display()))
}

fn walk(dir: &Path, visit: &mut dyn FnMut(&Path, &fs::Metadata)) -> Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        // Files come and go while a node runs.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", dir.display())),
    };
    for entry in entries {
        let path = entry?.path();
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        visit(&path, &meta);
        if meta.is_dir() && !NOT_HOST.contains(&inside(&path).as_str()) {
            walk(&path, visit)?;
        }
    }
    Ok(())
}

/// Returns the bytes on disk of all files below a folder of the host.
pub(crate) fn used_by_files(dir: &str) -> Result<u64> {
    let mut bytes = 0;
    walk(&Path::new(ROOT).join(dir), &mut |_, meta| bytes += meta.blocks() * 512)?;
    Ok(bytes)
}

/// Joins lines and ends each with a newline.
pub(crate) fn text(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_hide_the_parent() {
        let parsed = parse_stat("7 (a) R 9 (b)) S 1 7 7 0 -1");
        assert_eq!(parsed, Some(("a) R 9 (b)".to_owned(), 1)));
    }

    #[test]
    fn a_control_group_has_the_same_name_inside_a_namespace() {
        for seen in
            ["0::/host/kubelet\n", "0::/../../../host/kubelet\n", "1:x:/y\n0::/../host/kubelet"]
        {
            assert_eq!(parse_cgroup(seen).as_deref(), Some("/host/kubelet"), "{seen}");
        }
        assert_eq!(parse_cgroup("0::/\n").as_deref(), Some("/"));
        assert_eq!(parse_cgroup("0::/../..\n").as_deref(), Some("/"));
    }

    proptest! {
        #[test]
        fn name_and_parent_are_parsed_back_whatever_the_name(name: String, parent: i32) {
            let stat = format!("7 ({name}) S {parent} 7 7 0 -1");
            prop_assert_eq!(parse_stat(&stat), Some((name, parent)));
        }

        #[test]
        fn a_control_group_never_shows_where_its_namespace_begins(text in "(0::)?(/\\.\\.)*[a-z/.:\n]*") {
            if let Some(path) = parse_cgroup(&text) {
                prop_assert!(!path.is_empty() && !path.starts_with("/.."));
            }
        }
    }
}
