//! Rules about `tests/workloads`: well-known projects, and what each of them needs of a node.
//!
//! The files are read off the projects' own manifests, which each file names. These rules compare
//! them with the default kernel, the folders of the root and the mounts of PID 1.

use std::collections::BTreeMap;
use std::path::Path;

use kiln_contract::{path, root};
use serde::Deserialize;

use super::{files_with, none, text};
use crate::arch::Arch;
use crate::build::load;
use crate::config::{Config, Output};

/// The files of a running node that manifests expect, and that PID 1, containerd or kubelet makes.
/// `/boot/config-RELEASE` is in the root.
const MADE: [&str; 10] = [
    "/boot/config-RELEASE",
    "/proc/sys/kernel",
    "/proc/sys/net",
    "/var/lib/kubelet",
    "/var/lib/kubelet/plugins",
    "/var/lib/kubelet/plugins_registry",
    "/var/lib/kubelet/pod-resources",
    "/var/lib/kubelet/pods",
    "/sys/fs",
    "/sys/fs/cgroup",
];

/// A file below `tests/workloads`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Workload {
    #[serde(skip)]
    name: String,
    about: String,
    /// The version that was read.
    version: String,
    /// Repositories with commits and files, or titles of documents.
    sources: Vec<String>,
    /// Modules that it loads, or that its documents name.
    modules: Vec<String>,
    /// Paths of the host that its pods mount.
    host_paths: BTreeMap<String, Expected>,
    /// Modules that the default image does not have, with the use that needs them.
    #[serde(default)]
    absent_modules: BTreeMap<String, String>,
    /// Programs of the host that Kiln does not have, with the use that needs them.
    #[serde(default)]
    absent_programs: BTreeMap<String, String>,
}

/// The type of a `hostPath` volume.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Expected {
    /// No type: containerd makes a folder if there is nothing.
    Any,
    /// `DirectoryOrCreate` or `FileOrCreate`: kubelet makes it.
    Create,
    /// `Directory`, `File` or `Socket`: the pod waits until it exists.
    Exists,
}

fn workloads() -> Vec<Workload> {
    let files = files_with(".toml").into_iter().filter(|file| file.starts_with("tests/workloads"));
    let read = |file: std::path::PathBuf| Workload {
        name: file.file_stem().unwrap().to_str().unwrap().to_owned(),
        ..toml::from_str(&text(&file)).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    };
    files.map(read).collect()
}

fn default_image() -> Config {
    load(&super::root().join("build.toml"), Arch::X86_64).unwrap()
}

/// Returns the mount points in the table of docs/boot.md.
fn mounts() -> Vec<String> {
    let page = text("docs/boot.md");
    let (_, section) = page.split_once("\n### Mounts\n").unwrap();
    let (section, _) = section.split_once("\n### ").unwrap();
    let cell = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    section.lines().filter_map(cell).collect()
}

/// Returns the reason why a pod with this volume does not start.
fn offence(path: &str, expected: Expected, mounts: &[String]) -> Option<String> {
    let path = resolved(path);
    let exists = path == "/"
        || root::FOLDERS.contains(&path.as_str())
        || mounts.contains(&path)
        || MADE.contains(&path.as_str())
        || path == "/run/containerd/containerd.sock";
    let parent = mounts
        .iter()
        .filter(|mount| mount.as_str() != "/" && Path::new(&path).starts_with(mount))
        .max_by_key(|mount| mount.len());
    let writable = parent.is_some_and(|mount| {
        ["/etc", "/opt", "/run", "/tmp", "/var"].contains(&mount.as_str())
            || mount == path::VOLUME_PLUGINS
            || mount == "/sys/fs/bpf"
    });
    match expected {
        _ if exists => None,
        Expected::Exists => Some("does not exist on a node".to_owned()),
        Expected::Any | Expected::Create if writable => None,
        _ => Some("does not exist, and cannot be made in a read-only root".to_owned()),
    }
}

/// Replaces a link of the root at the beginning of a path, and `/var/run`.
fn resolved(path: &str) -> String {
    let links = root::LINKS.iter().map(|(link, to)| (*link, format!("/{to}")));
    let links = links.chain([("/var/run", "/run".to_owned())]);
    for (link, to) in links {
        if let Ok(rest) = Path::new(path).strip_prefix(link) {
            return Path::new(&to)
                .join(rest)
                .display()
                .to_string()
                .trim_end_matches('/')
                .to_owned();
        }
    }
    path.to_owned()
}

#[test]
fn the_default_image_has_the_modules_of_every_workload() {
    let kernel = default_image().kernel;
    let groups = kernel.groups.iter().flat_map(|group| &group.modules);
    let present: Vec<&String> =
        kernel.early.iter().chain(&kernel.load).chain(&kernel.modules).chain(groups).collect();
    let workloads = workloads();
    assert_eq!(workloads.len(), 10);
    let missing = workloads.iter().flat_map(|workload| {
        let missing = workload.modules.iter().filter(|module| !present.contains(module));
        let stale = workload.absent_modules.keys().filter(|module| present.contains(module));
        let missing = missing.map(|module| format!("{}: no `{module}`", workload.name));
        missing.chain(stale.map(|module| format!("{}: `{module}` is there", workload.name)))
    });
    none("kernel/cloud.toml and tests/workloads differ", missing);
}

#[test]
fn a_node_has_every_host_path_that_a_workload_mounts() {
    let mounts = mounts();
    assert!(mounts.len() > 20, "{mounts:?}");
    let offences = workloads().into_iter().flat_map(|workload| {
        let offence = |(path, expected): (&String, &Expected)| {
            Some(format!("{}: {path} {}", workload.name, offence(path, *expected, &mounts)?))
        };
        workload.host_paths.iter().filter_map(offence).collect::<Vec<_>>()
    });
    none("pods of these workloads would not start", offences);
}

#[test]
fn a_program_that_a_workload_misses_is_not_on_the_host() {
    let config = default_image();
    let outputs = config.listed.iter().map(|name| &config.package(name).output);
    let files = outputs.filter_map(|output| match output {
        Output::Rootfs(files) => Some(files.values()),
        _ => None,
    });
    let names: Vec<String> = files
        .flatten()
        .filter_map(|path| path.rsplit('/').next().map(str::to_owned))
        .chain(path::APPLETS.iter().map(|applet| (*applet).to_owned()))
        .collect();
    assert!(names.iter().any(|name| name == "kubelet"), "{names:?}");
    let stale = workloads().into_iter().flat_map(|workload| {
        let found = workload.absent_programs.into_keys().filter(|name| names.contains(name));
        found.map(|name| format!("{}: {name}", workload.name)).collect::<Vec<_>>()
    });
    none("programs that are there", stale);
}

#[test]
fn the_page_on_workloads_has_every_workload_with_its_version_and_reasons() {
    let page = text("docs/workloads.md");
    let missing = workloads().into_iter().flat_map(|workload| {
        assert!(!workload.sources.is_empty() && !workload.about.is_empty(), "{}", workload.name);
        let reasons =
            workload.absent_modules.into_keys().chain(workload.absent_programs.into_keys());
        let wanted = [workload.version, format!("workloads/{}.toml", workload.name)];
        let wanted = wanted.into_iter().chain(reasons.map(|name| format!("`{name}`")));
        wanted.filter(|text| !page.contains(text.as_str())).collect::<Vec<_>>()
    });
    none("not in docs/workloads.md", missing);
}

#[test]
fn a_host_path_that_cannot_be_made_is_noticed() {
    let mounts = mounts();
    let check = |path, expected| offence(path, expected, &mounts).is_none();
    assert!(check("/lib/modules", Expected::Exists));
    assert!(check("/var/run/x", Expected::Create) && check("/opt/x", Expected::Any));
    assert!(!check("/var/run/x", Expected::Exists));
    assert!(!check("/data", Expected::Create) && !check("/usr/share/x", Expected::Any));
    assert!(!check("/sys/x", Expected::Create) && !check("/proc/x", Expected::Any));
}
