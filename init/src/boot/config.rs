//! The writable part of the system: `/etc`, `/var`'s folders, names, static pods.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use kiln_contract::{credential as names, path};

use crate::boot::mounts;
use crate::boot::mounts::Tree;
use crate::boot::root::First;
use crate::console::kmsg;
use crate::kernel::{network, sysctl};
use crate::log::pod_logs;
use crate::login1;
use crate::machine::parameters::Parameters;
use crate::machine::{credential, identity};
use crate::process::deadline;
use crate::storage::data::{SEED_COPY, Var, random_seed};

/// Where the kernel shows the machine's UUID from SMBIOS.
const PRODUCT_UUID: &str = "/sys/class/dmi/id/product_uuid";

/// How long `/var` may take to get its folders.
pub const VAR_DEADLINE: Duration = Duration::from_secs(30);

/// Folders of `/var` that kubelet, containerd, CNI and the log thread expect.
const VAR_FOLDERS: [&str; 9] = [
    "/var/cache",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kiln",
    "/var/lib/kubelet/seccomp",
    "/var/log/containers",
    "/var/log/pods",
    "/var/spool",
    "/var/tmp",
];

/// A node that knows who it is.
#[derive(Debug)]
pub struct Node {
    /// Final name.
    pub hostname: String,
    /// Services' output goes to the console too.
    pub log_to_console: bool,
    /// Longest time that a shutdown waits for kubelet.
    pub shutdown_max: Duration,
    /// kubelet's configuration asks for a graceful shutdown.
    pub graceful: bool,
    /// Where `/var` is.
    pub var: Var,
    /// This boot is on trial.
    pub trial: bool,
    /// Reboots as a cure that are allowed in 24 hours.
    pub cure_reboots: u8,
}

/// Proof that `/etc` is filled.
#[derive(Debug)]
pub struct Etc(());

/// What containerd expects and `/var` has no part in.
pub fn prepare(_: &Tree) -> Result<Etc> {
    let _ = kmsg::warn_on_error(network::loopback_up());
    fill_etc().map(Etc)
}

/// What kubelet and its pods expect and containerd does not: static pods, name servers, settings.
///
/// And nothing is left below the root by then, which a privileged pod could climb down to.
pub fn prepare_for_kubelet(below: First) -> Result<()> {
    below.empty();
    copy_manifests();
    sysctl::apply(sysctl::When::Boot);
    make_resolver()
}

/// Fills `/var` and settles who the node is.
pub fn settle(_: Etc, var: Var, parameters: &Parameters) -> Result<Node> {
    credential::store_smbios();
    let hostname = name_node(parameters.hostname.as_deref())?;
    match var {
        Var::Memory => prepare_var(Some(&parameters.pod_log_size))?,
        Var::Partition => prepare_var_in_thread()?,
    }
    mounts::share()?;
    kmsg::notice(format_args!("node {hostname}"));
    let kubelet = fs::read_to_string(path::KUBELET_BASE_CONFIG).unwrap_or_default();
    Ok(Node {
        hostname,
        log_to_console: parameters.log_to_console,
        var,
        shutdown_max: parameters.shutdown_max,
        graceful: login1::grace::is_configured(&kubelet),
        trial: parameters.trial,
        cure_reboots: cures(var, parameters.cure_reboots),
    })
}

/// None without a data partition: they could not be counted.
fn cures(var: Var, asked: u8) -> u8 {
    if asked > 0 && var == Var::Memory {
        kmsg::warn("no data partition to count reboots on, so there are none as a cure");
        return 0;
    }
    asked
}

/// kubelet reads `/etc/resolv.conf` for every pod, also for the one that will obtain a lease.
fn make_resolver() -> Result<()> {
    fs::create_dir_all(path::RESOLVER).context("make the resolver's folder")?;
    let file = format!("{}/resolv.conf", path::RESOLVER);
    fs::write(file, "").context("make an empty resolv.conf")
}

fn fill_etc() -> Result<()> {
    copy_folder(Path::new(path::ETC_SOURCE), Path::new("/etc"))?;
    fs::create_dir_all(path::MANIFESTS).context("make the folder of manifests")?;
    let resolv = format!("{}/resolv.conf", path::RESOLVER);
    if !Path::new("/etc/resolv.conf").exists() {
        let _ = symlink(resolv, "/etc/resolv.conf");
    }
    Ok(())
}

/// Copies files, folders and links. A source that is not there has no files.
fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    for entry in fs::read_dir(from).into_iter().flatten() {
        let entry = entry.with_context(|| format!("list {}", from.display()))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            fs::create_dir_all(&target).with_context(|| format!("make {}", target.display()))?;
            copy_folder(&source, &target)?;
        } else if kind.is_symlink() {
            let link = fs::read_link(&source)?;
            symlink(link, &target).with_context(|| format!("link {}", target.display()))?;
        } else {
            fs::copy(&source, &target).with_context(|| format!("copy {}", source.display()))?;
        }
    }
    Ok(())
}

/// Decides machine-id and name, sets the name, and writes the files that repeat both.
fn name_node(parameter: Option<&str>) -> Result<String> {
    let id = identity::machine_id(&seed()?);
    let hostname = [credential::text(names::HOSTNAME), parameter.map(str::to_owned)]
        .into_iter()
        .flatten()
        .find_map(|name| {
            let valid = identity::hostname(&name);
            if valid.is_none() {
                kmsg::warn(format_args!("hostname {name:?} is not valid, ignored"));
            }
            valid
        })
        .unwrap_or_else(|| identity::default_hostname(&id));
    rustix::system::sethostname(hostname.as_bytes()).context("sethostname")?;
    let hosts = format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {hostname}\n");
    for (file, text) in [
        ("/etc/machine-id", format!("{id}\n")),
        ("/etc/hostname", format!("{hostname}\n")),
        ("/etc/hosts", hosts),
    ] {
        fs::write(file, text).with_context(|| format!("write {file}"))?;
    }
    Ok(hostname)
}

/// From SMBIOS, else from the data partition, else random.
fn seed() -> Result<String> {
    let smbios = fs::read_to_string(PRODUCT_UUID).unwrap_or_default();
    if let Some(uuid) = identity::machine_uuid(&smbios) {
        return Ok(uuid);
    }
    if let Ok(seed) = fs::read_to_string(SEED_COPY) {
        return Ok(seed);
    }
    kmsg::notice("nothing identifies this machine: its name changes with each boot");
    random_seed()
}

/// In a thread, because `/var` is a disk that can hang.
fn prepare_var_in_thread() -> Result<()> {
    let work = deadline::begin("var", || prepare_var(None), drop)?;
    deadline::end(&work, VAR_DEADLINE).context("prepare /var: it does not answer")?
}

/// With the size of the file system for pods' logs, where `/var` is in memory.
fn prepare_var(pod_log_size: Option<&str>) -> Result<()> {
    for folder in VAR_FOLDERS {
        fs::create_dir_all(folder).with_context(|| format!("make {folder}"))?;
    }
    if let Some(size) = pod_log_size {
        let options = format!("mode=0755,size={size}");
        mounts::tmpfs(pod_logs::FOLDER, "").attach(pod_logs::FOLDER, &options)?;
    }
    fs::set_permissions("/var/tmp", fs::Permissions::from_mode(0o1777))
        .context("chmod /var/tmp")?;
    if fs::symlink_metadata("/var/run").is_err() {
        symlink("/run", "/var/run").context("link /var/run")?;
    }
    let _ = fs::remove_file(path::KUBELET_SECCOMP);
    symlink(path::SECCOMP, path::KUBELET_SECCOMP).context("link the seccomp profiles")?;
    // Renamed into place, so that a power cut leaves the old one or the new one.
    let new = format!("{}.new", path::KUBELET_CONFIG);
    fs::copy(path::KUBELET_BASE_CONFIG, &new)
        .and_then(|_| fs::rename(&new, path::KUBELET_CONFIG))
        .context("copy kubelet's configuration")
}

/// Copies static pods: the image's, then credentials `kiln.pod.NAME`, which win over equal names.
///
/// One that cannot be copied does not stop the others; a broken one is kubelet's to report.
fn copy_manifests() {
    let target = Path::new(path::MANIFESTS);
    let _ = kmsg::warn_on_error(copy_folder(Path::new(path::BAKED_MANIFESTS), target));
    for name in credential::names(names::POD_PREFIX) {
        let pod = name.trim_start_matches(names::POD_PREFIX);
        let file = target.join(format!("{pod}.yaml"));
        let copied = fs::copy(Path::new(path::CREDENTIALS).join(&name), &file);
        let _ = kmsg::warn_on_error(copied.with_context(|| format!("copy credential {name}")));
    }
}

#[cfg(test)]
mod tests {
    use super::copy_folder;

    #[test]
    fn folders_are_copied_with_their_links() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(from.path().join("a")).unwrap();
        std::fs::write(from.path().join("a/file"), "text").unwrap();
        std::os::unix::fs::symlink("file", from.path().join("a/link")).unwrap();
        copy_folder(from.path(), to.path()).unwrap();
        assert_eq!(std::fs::read_to_string(to.path().join("a/link")).unwrap(), "text");
        assert_eq!(std::fs::read_link(to.path().join("a/link")).unwrap().to_str(), Some("file"));
    }

    #[test]
    fn a_missing_source_is_an_empty_one() {
        let to = tempfile::tempdir().unwrap();
        copy_folder(&to.path().join("nothing"), to.path()).unwrap();
    }
}
