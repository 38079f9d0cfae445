//! A scenario file: the machine, the texts that its console must and must not contain, and the
//! instructions.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::disks;
use super::handed::Handed;
use super::instruction::{Instruction, Plug};
use super::rig::PROBE_PORT;
use crate::cluster::{Channel, Credentials, template};
use crate::qemu::segment;

/// The name of the SMBIOS string (type 11) that holds more kernel parameters: systemd-stub(7).
pub const STUB_CMDLINE: &str = "io.systemd.stub.kernel-cmdline-extra";

/// One scenario.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the file")]
pub struct Scenario {
    /// The file's stem.
    #[serde(skip)]
    pub name: String,
    /// One sentence that states what a pass proves.
    pub about: String,
    /// The tier, which decides the runs that include the scenario.
    #[serde(default)]
    pub tier: Tier,
    /// The machine's memory in MiB.
    #[serde(default = "default_memory")]
    pub memory: u32,
    /// Ports of the node that are forwarded from the host.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// True if UEFI firmware starts the image's file, as on a real machine; false if QEMU starts the
    /// kernel, which is quicker and leaves out firmware and EFI stub.
    #[serde(default = "default_firmware")]
    pub firmware: bool,
    /// More kernel parameters.
    pub cmdline: Option<String>,
    /// True if the machine has a hardware watchdog.
    #[serde(default = "default_watchdog")]
    pub watchdog: bool,
    /// More arguments for QEMU.
    #[serde(default)]
    pub qemu: Vec<String>,
    /// The network that the machine's card is connected to.
    #[serde(default)]
    pub network: Network,
    /// True if the host serves the time from the start, on [`super::ntp::PORT`], which the node reaches
    /// at 10.0.2.2.
    #[serde(default)]
    pub ntp: bool,
    /// True if the host serves NFS on [`super::nfs::PORT`], which the node reaches at 10.0.2.2.
    #[serde(default)]
    pub nfs: bool,
    /// The number of PCI Express slots for devices that are plugged in while the machine runs.
    #[serde(default)]
    pub slots: u8,
    /// A disk with a data partition, which all boots of the scenario share.
    pub disk: Option<Disk>,
    /// More disks, which all boots of node 1 share.
    #[serde(default)]
    pub disks: Vec<disks::Disk>,
    /// A cluster that the machines can join.
    pub cluster: Option<Joint>,
    /// Credentials of every boot in a cluster, with `${…}` for what only the cluster knows. Without
    /// this, a node gets its name and what it needs to join.
    pub credentials: Option<Credentials>,
    /// The channel of the credentials.
    #[serde(default)]
    pub channel: Channel,
    /// Days by which the machine's clock is ahead; a negative number for a clock that is behind.
    #[serde(default)]
    pub clock_days: i64,
    /// True if the kernel is expected to crash; in any other scenario a crash is a failure.
    #[serde(default)]
    pub crashes: bool,
    /// Texts that no console line may contain.
    #[serde(default)]
    pub forbid: Vec<String>,
    /// Texts that exactly one console line of each boot contains.
    #[serde(default)]
    pub once: Vec<String>,
    /// The faults that the scenario injects: first cells of the table in `docs/boot.md`.
    #[serde(default)]
    pub faults: Vec<String>,
    /// The instructions, in order.
    #[serde(rename = "step")]
    pub instructions: Vec<Instruction>,
}

/// The tier of a scenario.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Runs with every `cargo xtask test`.
    Core,
    /// Runs with `--all` and by name.
    #[default]
    Full,
}

/// A network for the machine's card.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// QEMU's own network with its DHCP server and forwarded ports.
    #[default]
    User,
    /// A network of the scenario's own with a DHCP server that can fail; the host cannot connect to the node.
    Lan,
}

/// A cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Joint {
    /// The number of machines that can join.
    #[serde(default = "default_nodes")]
    pub nodes: u8,
    /// True if the cluster network is installed from a registry on the host.
    #[serde(default)]
    pub network: bool,
    /// True if another registry with the same images asks for a password.
    #[serde(default)]
    pub locked_registry: bool,
}

/// A disk with one data partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Disk {
    /// The disk's size in MiB.
    pub mib: u32,
}

fn default_nodes() -> u8 {
    1
}

fn default_memory() -> u32 {
    1024
}

fn default_firmware() -> bool {
    true
}

fn default_watchdog() -> bool {
    true
}

impl Tier {
    /// The word in a scenario file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Full => "full",
        }
    }
}

impl Scenario {
    /// Parses one file's text; `path` names the scenario and appears in errors.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let mut scenario: Self =
            toml::from_str(text).with_context(|| path.display().to_string())?;
        scenario.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        scenario.check().with_context(|| path.display().to_string())?;
        Ok(scenario)
    }

    fn check(&self) -> Result<()> {
        let by_stub = self.qemu.iter().any(|argument| argument.contains(STUB_CMDLINE));
        ensure!(!by_stub, "`qemu` has kernel parameters; use the key `cmdline`");
        let first = self.instructions.first();
        ensure!(
            matches!(first, Some(Instruction::Boot(_) | Instruction::Hand(_))),
            "the first instruction must be `boot` or `hand`"
        );
        self.check_cluster()?;
        let (mut node, mut running, mut answering) = (1, BTreeSet::new(), BTreeSet::new());
        for (at, instruction) in self.instructions.iter().enumerate() {
            let place = || format!("instruction {}, {instruction}", at + 1);
            self.check_one(instruction, running.contains(&node)).with_context(place)?;
            // The probe is asked once, so the request fails if the pod has not started yet.
            let once = matches!(instruction, Instruction::Act(_));
            let too_early = once && !answering.contains(&node);
            ensure!(!too_early, "{}: wait for the probe with `get` or `probe`", place());
            match instruction {
                Instruction::Boot(_) => drop(running.insert(node)),
                Instruction::Get(get) if get.port == PROBE_PORT => drop(answering.insert(node)),
                Instruction::Probe(_) => drop(answering.insert(node)),
                Instruction::Down(_) | Instruction::Reset(_) | Instruction::PowerCut(_) => {
                    running.remove(&node);
                    answering.remove(&node);
                }
                Instruction::Node(number) => node = *number,
                _ => {}
            }
        }
        let judged = self.instructions.iter().any(|one| matches!(one, Instruction::Down(_)));
        ensure!(judged || self.once.is_empty(), "`once` needs a boot that ends with `down`");
        let ended = running.is_empty();
        ensure!(ended, "the last instruction must be `down`, `reset` or `power-cut`");
        Ok(())
    }

    fn check_cluster(&self) -> Result<()> {
        let Some(cluster) = self.cluster else {
            ensure!(self.credentials.is_none(), "`credentials` needs a `cluster`");
            return Ok(());
        };
        let cards = 1..=segment::CARDS_MAX;
        ensure!(cards.contains(&cluster.nodes), "a cluster has 1 to {} nodes", cards.end());
        ensure!(self.network == Network::User, "`network` is fixed by `cluster`");
        let by_esp = |one: &Instruction| *one == Instruction::Channel(Channel::Esp);
        let by_esp = self.channel == Channel::Esp || self.instructions.iter().any(by_esp);
        ensure!(self.firmware || !by_esp, "the channel `esp` needs `firmware = true`");
        ensure!(
            self.ports.is_empty() || cluster.nodes == 1,
            "`ports` need a cluster with one node, because addresses of several are not known"
        );
        self.credentials.iter().flatten().try_for_each(|(name, text)| {
            template::check(text).with_context(|| format!("credential `{name}`"))
        })
    }

    /// Checks that an instruction fits the machine, which runs at this point or does not.
    fn check_one(&self, instruction: &Instruction, running: bool) -> Result<()> {
        let lan = self.network == Network::Lan;
        let forwarded = |port| !lan && self.ports.contains(&port);
        match instruction {
            Instruction::Boot(_)
            | Instruction::Unmounted(_)
            | Instruction::Enlarge(_)
            | Instruction::Damage(_)
            | Instruction::Sound(_)
            | Instruction::Unchanged(_)
                if running =>
            {
                bail!("the machine still runs")
            }
            Instruction::StallDisk(_) | Instruction::ResumeDisk(_) | Instruction::Unmounted(_)
                if self.disk.is_none() =>
            {
                bail!("there is no `disk`")
            }
            Instruction::Boot(_) | Instruction::Unmounted(_) | Instruction::SameImage(_) => {}
            Instruction::Enlarge(disks::Enlarge { disk, .. })
            | Instruction::Damage(disks::Damage { disk, .. })
            | Instruction::Sound(disk) => self.check_disk(disk)?,
            Instruction::Unchanged(names) => {
                names.iter().try_for_each(|name| self.check_disk(name))?;
            }
            Instruction::Node(_)
            | Instruction::Kubectl(_)
            | Instruction::Ready(_)
            | Instruction::Apply(_)
            | Instruction::Api(_)
            | Instruction::Channel(_)
            | Instruction::Credentials(_) => return self.check_one_of_cluster(instruction),
            Instruction::Late(_) => {
                ensure!(running, "no machine runs here");
                ensure!(forwarded(PROBE_PORT), "the probe needs {PROBE_PORT} among `ports`");
                return self.check_one_of_cluster(instruction);
            }
            Instruction::Hand(handed) => {
                ensure!(self.cluster.is_none(), "`hand` is for a machine without a `cluster`");
                handed.iter().try_for_each(Handed::check)?;
            }
            _ if !running => bail!("no machine runs here"),
            Instruction::Plug(Plug { slot, .. }) | Instruction::Unplug(slot) => {
                let found = (1..=self.slots).contains(slot);
                ensure!(found, "slot {slot} is not among the {} `slots`", self.slots);
            }
            Instruction::Lan(_) => ensure!(lan, "`lan` needs `network = \"lan\"`"),
            Instruction::Get(get) => ensure!(
                forwarded(get.port),
                "port {} is not among `ports`, or `network` is not `user`",
                get.port
            ),
            Instruction::Probe(_)
            | Instruction::Act(_)
            | Instruction::Refused(_)
            | Instruction::Figure(_) => {
                ensure!(forwarded(PROBE_PORT), "the probe needs {PROBE_PORT} among `ports`");
            }
            _ => {}
        }
        Ok(())
    }

    fn check_disk(&self, name: &str) -> Result<()> {
        let found = self.disks.iter().any(|disk| disk.name == name);
        ensure!(found, "the disk {name} is not among the `disks`");
        Ok(())
    }

    fn check_one_of_cluster(&self, instruction: &Instruction) -> Result<()> {
        let cluster = self.cluster.context("there is no `cluster`")?;
        match instruction {
            Instruction::Node(number) => {
                let found = (1..=cluster.nodes).contains(number);
                ensure!(found, "node {number} is not among the {} `nodes`", cluster.nodes);
                Ok(())
            }
            Instruction::Credentials(credentials) | Instruction::Late(credentials) => {
                credentials.iter().try_for_each(|(name, text)| {
                    template::check(text).with_context(|| format!("credential `{name}`"))
                })
            }
            _ => Ok(()),
        }
    }

    /// True if the scenario measures time, so that other work on the host could fail it.
    pub fn measures_time(&self) -> bool {
        let measures =
            |one: &Instruction| matches!(one, Instruction::Elapsed(_) | Instruction::Figure(_));
        self.instructions.iter().any(measures)
    }

    /// True if the scenario compares images with what they were.
    pub fn compares_images(&self) -> bool {
        self.instructions.iter().any(|one| matches!(one, Instruction::SameImage(_)))
    }

    /// The images that the scenario boots, one for each boot.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        self.instructions.iter().filter_map(|one| match one {
            Instruction::Boot(image) => Some(image.as_str()),
            _ => None,
        })
    }
}

/// Reads all scenarios, `NAME.toml` in this folder, in the order of their names.
pub fn load(folder: &Path) -> Result<Vec<Scenario>> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    paths.sort();
    let read = |path: &PathBuf| {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Scenario::parse(&text, path)
    };
    paths.iter().map(read).collect()
}

#[cfg(test)]
mod tests;
