//! Prepares the node: fills `/var`, and decides the machine-id and the name.

use std::fs;

use anyhow::{Context, Result};
use kiln_contract::path;
use kiln_contract::setting::{HOSTNAME, HOSTNAME_CREDENTIAL, POD_LOG_SIZE, VAR_SIZE};

use super::credentials::Gathered;
use super::fill::{self, Sizes};
use super::mounts;
use super::proof::Etc;
use crate::console::kmsg;
use crate::kubelet::apply;
use crate::kubelet::reserved::{self, Machine};
use crate::login1;
use crate::machine::credential::{self, Credentials};
use crate::machine::identity::{self, random_uuid};
use crate::machine::parameters::Parameters;
use crate::storage::mounted::SEED_COPY;
use crate::storage::var::Var;
use crate::supervise::host::Node;

/// The kernel's file with the machine's UUID from SMBIOS.
const PRODUCT_UUID: &str = "/sys/class/dmi/id/product_uuid";

/// The next step after an invalid name.
const NAME_FORM: &str = "use at most 63 letters, digits, `-` and `.`";

/// Fills `/var` and decides the node's identity.
pub fn settle(_: Etc, var: Var, parameters: Parameters, gathered: Gathered) -> Result<Node> {
    let Gathered { settings, disk_hostname, .. } = gathered;
    let names = [
        ("credential kiln.hostname", hostname_credential()),
        ("kiln.node: hostname", settings.hostname.clone()),
        ("parameter kiln.hostname", parameters.given(&HOSTNAME).map(str::to_owned)),
        ("meta-data of a NoCloud disk", disk_hostname),
    ];
    let hostname = name_node(names)?;
    let credentials = Credentials::kept();
    let (cluster, bootstrap) =
        apply::wanted(&credentials).map(|join| (join.cluster, join.bootstrap)).unzip();
    let (var_size, pod_logs) = (parameters.text(&VAR_SIZE), parameters.text(&POD_LOG_SIZE));
    let (var, cluster) =
        fill::fill(var, &settings.data, Sizes { var: var_size, pod_logs }, cluster)?;
    if let Some(cluster) = &cluster {
        kmsg::notice(format_args!("the node belongs to the cluster at {}", cluster.server));
        apply::leave_standalone();
    }
    mounts::share()?;
    kmsg::notice(format_args!("node {hostname}"));
    let kubelet = fs::read_to_string(path::KUBELET_BASE_CONFIG).unwrap_or_default();
    let reserve = || reserved::reserve(&Machine::read(var == Var::Memory));
    let reserved = (!reserved::is_configured(&kubelet)).then(reserve);
    Ok(Node {
        hostname,
        graceful: login1::grace::is_configured(&kubelet),
        var,
        parameters,
        kubelet: apply::facts(&credentials, settings, cluster, bootstrap, reserved),
    })
}

/// Returns the text of the credential with the name.
fn hostname_credential() -> Option<String> {
    let bytes = credential::kept(&HOSTNAME_CREDENTIAL)?;
    let text = String::from_utf8(bytes).ok();
    if text.is_none() {
        kmsg::warn(format_args!(
            "credential {}: not UTF-8, ignored; {NAME_FORM}",
            HOSTNAME_CREDENTIAL.name
        ));
    }
    text
}

/// Decides the machine-id and the name, sets the name, and writes the files that contain them.
///
/// `names` are pairs of a source and the name from there; the first valid name wins.
fn name_node(names: [(&str, Option<String>); 4]) -> Result<String> {
    let id = identity::machine_id(&seed()?);
    let hostname = names
        .into_iter()
        .find_map(|(source, name)| {
            let name = name?;
            let valid = identity::hostname(&name);
            if valid.is_none() {
                kmsg::warn(format_args!("{source}: invalid name {name:?}, ignored; {NAME_FORM}"));
            }
            valid
        })
        .unwrap_or_else(|| identity::default_hostname(&id));
    rustix::system::sethostname(hostname.as_bytes()).context("cannot set the hostname")?;
    let hosts = format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {hostname}\n");
    for (file, text) in [
        ("/etc/machine-id", format!("{id}\n")),
        ("/etc/hostname", format!("{hostname}\n")),
        ("/etc/hosts", hosts),
    ] {
        fs::write(file, text).with_context(|| format!("cannot write {file}"))?;
    }
    Ok(hostname)
}

/// Returns the seed of the machine-id: from SMBIOS, else from the data partition, else random.
fn seed() -> Result<String> {
    let smbios = fs::read_to_string(PRODUCT_UUID).unwrap_or_default();
    if let Some(uuid) = identity::machine_uuid(&smbios) {
        return Ok(uuid);
    }
    if let Ok(seed) = fs::read_to_string(SEED_COPY) {
        return Ok(seed);
    }
    kmsg::notice("nothing identifies this machine: its name changes with each boot");
    random_uuid()
}
