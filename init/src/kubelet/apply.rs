//! Writes the planned files into `/etc`, which is in memory.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result};
use kiln_base::replace::{self, Durability};
use kiln_contract::path;
use kiln_contract::setting::{BOOTSTRAP_KUBECONFIG, JOIN, POD};

use super::cluster::Cluster;
use super::join::{self, Join};
use super::plan::{Facts, File, Plan, is_drop_in};
use super::reserved::Reserved;
use crate::console::kmsg;
use crate::machine::credential::Credentials;
use crate::settings::Settings;

/// Reads the credential that names a cluster, and reports its mistakes.
#[must_use]
pub fn wanted(credentials: &Credentials) -> Option<Join> {
    let raw = credentials.value(&BOOTSTRAP_KUBECONFIG);
    let Some(text) = credentials.value(&JOIN) else {
        return join::of_kubeconfig(raw?).inspect_err(|line| kmsg::warn(line)).ok();
    };
    if raw.is_some() {
        let (ignored, used) = (BOOTSTRAP_KUBECONFIG.name, JOIN.name);
        kmsg::warn(format_args!("credential {ignored}: ignored because of {used}; remove one"));
    }
    let (join, lines) = join::parse(text);
    lines.iter().for_each(kmsg::warn);
    join
}

/// Returns the facts of a node. The cluster follows from the credential and the data partition.
#[must_use]
pub fn facts(
    credentials: &Credentials,
    settings: Settings,
    cluster: Option<Cluster>,
    bootstrap: Option<String>,
    reserved: Option<Reserved>,
) -> Facts {
    let providers = Path::new(path::CREDENTIAL_PROVIDERS).exists();
    let drop_ins = drop_ins(credentials);
    Facts { cluster, bootstrap, settings, drop_ins, reserved, providers }
}

/// Returns the credentials that are drop-ins.
#[must_use]
pub fn drop_ins(credentials: &Credentials) -> Vec<(String, Vec<u8>)> {
    let drop_ins = credentials.iter().filter(|(name, _)| is_drop_in(name));
    drop_ins.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect()
}

/// Copies the credential `kiln.pod.NAME` to the static pods. It replaces a pod of the same name.
pub fn copy_pod(credential: &str) -> Result<()> {
    let pod = credential.strip_prefix(POD.name).unwrap_or(credential);
    let (from, to) =
        (Path::new(path::CREDENTIALS).join(credential), format!("{}/{pod}.yaml", path::MANIFESTS));
    replace::copy(&from, Path::new(&to), Durability::None)
        .with_context(|| format!("cannot copy credential {credential}"))
}

/// Writes the files of a plan, and removes those of the plan before it.
pub fn write(plan: &Plan, before: &Plan) -> Result<()> {
    fs::create_dir_all(path::KUBELET_DROP_INS)
        .with_context(|| format!("cannot make {}", path::KUBELET_DROP_INS))?;
    for File { path, bytes, mode } in &plan.files {
        let file = Path::new(path);
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        replace::write(file, bytes, *mode, Durability::None)
            .with_context(|| format!("cannot write {path}"))?;
    }
    let new: BTreeSet<&str> = plan.files.iter().map(|file| file.path.as_str()).collect();
    for file in before.files.iter().filter(|file| !new.contains(file.path.as_str())) {
        let _ = fs::remove_file(&file.path);
    }
    fs::set_permissions(path::KUBELET_DROP_INS, fs::Permissions::from_mode(0o700))
        .with_context(|| format!("cannot set the mode of {}", path::KUBELET_DROP_INS))
}

/// Prepares `/etc` for a node that belongs to a cluster: the network of a standalone node is
/// removed, because it would make the node Ready before the cluster's network is there.
pub fn leave_standalone() {
    let _ = fs::remove_file(path::STANDALONE_CNI);
    if fs::symlink_metadata(path::KUBECONFIG_LINK).is_err() {
        let linked = symlink(path::KUBECONFIG, path::KUBECONFIG_LINK);
        let _ = kmsg::warn_on_error(linked.context("cannot link kubelet.conf"));
    }
}

/// Returns the node's addresses.
#[must_use]
pub fn addresses() -> Vec<IpAddr> {
    crate::kernel::address::all()
}
