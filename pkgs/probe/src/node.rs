//! The node's processes and files, through `/proc` of the host's PID namespace (`hostPID: true`).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, getsid, kill_process};

/// PID 1's root. A link that leads there only for who may trace PID 1, as a privileged pod may.
pub(crate) const ROOT: &str = "/proc/1/root";

/// Where pods' cgroups are.
const PODS: &str = "/kubepods";

/// Folders of the host whose files are kernel interfaces or belong to pods.
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

/// All processes but kernel threads and those in pods.
pub(crate) fn processes() -> Result<Vec<Process>> {
    let all = all_processes()?;
    Ok(all.into_iter().filter(|process| !process.cgroup.starts_with(PODS)).collect())
}

/// All processes but kernel threads.
pub(crate) fn all_processes() -> Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("reading /proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process may end while it is looked at.
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
    // The kernel adds that when the file is gone, as PID 1's is.
    let file = executable.file_name().and_then(|name| name.to_str());
    let file = file.map(|name| name.trim_end_matches(" (deleted)").to_owned());
    Some(Process { pid, parent, name: file.unwrap_or(name), cgroup })
}

/// Name and parent of `PID (NAME) STATE PARENT …`; the name may contain anything, `)` too.
fn parse_stat(stat: &str) -> Option<(String, i32)> {
    let (head, tail) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let parent = tail.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some((name.to_owned(), parent))
}

/// The path in the cgroup v2 hierarchy. Seen from a cgroup namespace it starts with `/..`.
fn parse_cgroup(text: &str) -> Option<String> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let inside = path.trim_start_matches("/..");
    Some(if inside.is_empty() { "/".to_owned() } else { inside.to_owned() })
}

/// `NAME  parent PARENT  cgroup CGROUP`, sorted: the same on each boot.
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

/// The one host process of a name. A service leads a session, which its orphans do not.
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

/// Kills the one host process of a name, and gives its id.
pub(crate) fn kill(name: &str) -> Result<String> {
    let process = find(name)?;
    let pid = Pid::from_raw(process.pid).context("process ids are positive")?;
    kill_process(pid, Signal::KILL).with_context(|| format!("killing {name}"))?;
    Ok(format!("killed {}\n", process.pid))
}

/// The times of the boot as PID 1 wrote them.
pub(crate) fn timeline() -> Result<String> {
    let file = format!("{ROOT}{}", kiln_contract::path::TIMELINE);
    fs::read_to_string(&file).with_context(|| format!("reading {file}"))
}

/// Regular files with an x bit below the host's root, pods' own files left out.
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
        Err(error) => return Err(error).with_context(|| format!("reading {}", dir.display())),
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

/// Bytes of all files on one file system of the host, as far as they use blocks.
pub(crate) fn used_by_files(dir: &str) -> Result<u64> {
    let mut bytes = 0;
    walk(&Path::new(ROOT).join(dir), &mut |_, meta| bytes += meta.blocks() * 512)?;
    Ok(bytes)
}

/// Lines with an end each.
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
    fn a_cgroup_is_the_same_from_inside_a_namespace() {
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
        fn any_text_is_taken_without_a_panic(text: String) {
            let _ = parse_stat(&text);
            let _ = parse_cgroup(&text);
        }
    }
}
