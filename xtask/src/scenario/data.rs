//! What a scenario file says: strict, so that a typing mistake is an error and not a check less.

use std::fmt;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::select::Tier;

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
    /// One sentence: what holds if it passes.
    pub about: String,
    /// How often it runs.
    #[serde(default)]
    pub tier: Tier,
    /// Memory of the machine in MiB.
    #[serde(default = "default_memory")]
    pub memory: u32,
    /// Ports of the node that the host can ask.
    #[serde(default)]
    pub ports: Vec<u16>,
    /// True if UEFI firmware starts the image's file, as on a real machine; false if QEMU starts the
    /// kernel, which is quicker and leaves out firmware and EFI stub.
    #[serde(default = "default_firmware")]
    pub firmware: bool,
    /// More kernel parameters.
    pub cmdline: Option<String>,
    /// Whether the machine has a hardware watchdog.
    #[serde(default = "default_watchdog")]
    pub watchdog: bool,
    /// More arguments for QEMU.
    #[serde(default)]
    pub qemu: Vec<String>,
    /// What the network card is connected to.
    #[serde(default)]
    pub network: Network,
    /// Serve the time on [`super::ntp::PORT`] of the host, which the node sees as 10.0.2.2.
    #[serde(default)]
    pub ntp: bool,
    /// PCI Express slots that a device can be plugged into while the machine runs, numbered from 1.
    #[serde(default)]
    pub slots: u8,
    /// A disk with a data partition, which all boots of the scenario share.
    pub disk: Option<Disk>,
    /// The kernel is meant to crash; everywhere else that fails the scenario.
    #[serde(default)]
    pub crashes: bool,
    /// Texts that no line of the console may contain.
    #[serde(default)]
    pub forbid: Vec<String>,
    /// Texts that exactly one line of each boot's console contains.
    #[serde(default)]
    pub once: Vec<String>,
    /// Faults whose outcome this scenario shows: first cells of the table in `docs/boot.md`.
    #[serde(default)]
    pub faults: Vec<String>,
    /// What happens, in order.
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
}

/// What a machine's network card is connected to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// QEMU's own network with its DHCP server and ports of the host that lead to the node.
    #[default]
    User,
    /// A network of the scenario's own with a DHCP server that can fail; no way in over TCP.
    Lan,
}

/// A disk with one data partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Disk {
    /// Its size in MiB.
    pub mib: u32,
}

/// One step. Waiting has no deadline but [`crate::qemu::SILENCE`] without any sign of life.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Starts a machine with the image of this build file, `NAME.toml` in `tests/vm`.
    Boot(String),
    /// Waits for a console line with this text, from where the last such step stopped.
    Console(String),
    /// Asks a port of the node until it answers so.
    Get(Get),
    /// Asks the probe pod until what it sees is as expected.
    Probe(Look),
    /// Asks the probe pod to do something, once.
    Act(Look),
    /// Asks the node's own services for these paths, on every address and port they listen on, without
    /// credentials, and expects to be refused.
    Refused(Vec<String>),
    /// A figure of a page of the probe pod, a line `NAME NUMBER`, must be within bounds.
    Figure(Figure),
    /// Does something with the scenario's own network.
    Lan(Lan),
    /// The time between two lines of the console must not be above a bound.
    Elapsed(Elapsed),
    /// The data disk takes no read and no write any more.
    StallDisk(Always),
    /// It does again.
    ResumeDisk(Always),
    /// Nobody takes what the serial port sends any more.
    StopConsole(Always),
    /// Somebody does again.
    ResumeConsole(Always),
    /// Puts a device into a slot while the machine runs.
    Plug(Plug),
    /// Takes the device out of this slot, and waits until the node has let it go.
    Unplug(u8),
    /// So many lines of the console have said this by now.
    Said(Said),
    /// Presses the power button.
    PowerButton(Always),
    /// Presses ctrl, alt and delete.
    CtrlAltDel(Always),
    /// Waits until QEMU tells of this event, of those since the last step that asked it something.
    QemuEvent(String),
    /// Presses it again and again, until a console line has this text.
    PressUntil(String),
    /// Waits until the machine is reset, without a last word of PID 1's.
    Reset(Reset),
    /// Waits for a clean end: `power-off`, `reboot`, or `halt`, after which the machine stays on.
    Down(String),
    /// The data disk's file system was unmounted, by what it says of itself.
    Unmounted(Always),
    /// Lets the node run on for so long.
    PauseMillis(u64),
    /// Cuts the power.
    PowerCut(Always),
}

/// Who resets a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reset {
    /// The hardware watchdog, which nobody feeds any more.
    Watchdog,
    /// The kernel, because PID 1 asked it to or because it panicked.
    Kernel,
}

/// The value `true`, for steps that take no argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "bool")]
pub struct Always;

impl TryFrom<bool> for Always {
    type Error = &'static str;

    fn try_from(value: bool) -> Result<Self, Self::Error> {
        if value {
            Ok(Self)
        } else {
            Err("this step takes `true`; leave it out if it is not wanted")
        }
    }
}

/// A question over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Get {
    /// The node's port, one of [`Scenario::ports`].
    pub port: u16,
    /// The path.
    #[serde(default = "default_path")]
    pub path: String,
    /// The status that is expected.
    #[serde(default = "default_status")]
    pub status: u16,
    /// Ask over TLS, whatever certificate is shown.
    #[serde(default)]
    pub tls: bool,
    /// A text that the page must contain.
    pub contains: Option<String>,
    /// Texts that it must not contain.
    #[serde(default)]
    pub lacks: Vec<String>,
    /// How many lines it must have.
    pub lines: Option<usize>,
}

/// A question to the probe pod.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Look {
    /// The path.
    pub path: String,
    /// A file in `tests/vm/golden` that the page must be equal to.
    pub golden: Option<String>,
    /// Texts that it must contain.
    #[serde(default)]
    pub contains: Vec<String>,
    /// Texts that it must not contain.
    #[serde(default)]
    pub lacks: Vec<String>,
    /// Bounds of the one number that the page is.
    pub between: Option<[u64; 2]>,
}

/// A figure and its bounds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Figure {
    /// The path on the probe pod.
    pub path: String,
    /// The first word of the line.
    pub name: String,
    /// Lower bound.
    #[serde(default)]
    pub at_least: u64,
    /// Upper bound.
    pub at_most: u64,
    /// How long the node is left alone before it is asked, in seconds.
    #[serde(default)]
    pub after_seconds: u64,
}

/// A device for a slot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Plug {
    /// QEMU's name of the device, as after `-device`.
    pub device: String,
    /// One of [`Scenario::slots`].
    pub slot: u8,
    /// Its properties, as QEMU names them.
    #[serde(default)]
    pub with: Map<String, Value>,
}

/// A text of the console, and how often it must have come.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Said {
    /// A text of the line.
    pub text: String,
    /// How many lines have it.
    pub times: usize,
}

/// Two lines of the console, and how long it may be from one to the other by the kernel's clock.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Elapsed {
    /// A text of the first line; the last such line before `to` counts.
    pub from: String,
    /// A text of the second line, which must be on the console already.
    pub to: String,
    /// Upper bound, in milliseconds.
    pub within_millis: u64,
}

/// Something with the scenario's own network.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lan {
    /// The DHCP server answers from now on. It does from the beginning.
    Serve(Always),
    /// The DHCP server is gone from now on.
    Silent(Always),
    /// The DHCP server refuses the next request for a lease, and gives another address after that.
    Nak(Always),
    /// Waits until so many leases were given since this server's last start.
    Acked(u32),
    /// Waits until so many messages went unanswered since the server fell silent.
    Unanswered(u32),
    /// Waits until the node answers a ping at this address.
    Answers(Ipv4Addr),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boot(image) => write!(f, "boot {image}"),
            Self::Console(text) => write!(f, "console {text:?}"),
            Self::Get(get) => write!(f, "get port {} {}", get.port, get.path),
            Self::Probe(look) => write!(f, "probe {}", look.path),
            Self::Act(look) => write!(f, "act {}", look.path),
            Self::Refused(_) => write!(f, "refused"),
            Self::Figure(figure) => write!(f, "figure {}", figure.name),
            Self::Lan(lan) => write!(f, "lan {lan:?}"),
            Self::Elapsed(elapsed) => write!(f, "elapsed {:?}", elapsed.to),
            Self::StallDisk(_) => write!(f, "stall-disk"),
            Self::ResumeDisk(_) => write!(f, "resume-disk"),
            Self::StopConsole(_) => write!(f, "stop-console"),
            Self::ResumeConsole(_) => write!(f, "resume-console"),
            Self::Plug(plug) => write!(f, "plug {}", plug.device),
            Self::Unplug(slot) => write!(f, "unplug slot {slot}"),
            Self::Said(said) => write!(f, "said {:?}", said.text),
            Self::PowerButton(_) => write!(f, "power-button"),
            Self::CtrlAltDel(_) => write!(f, "ctrl-alt-del"),
            Self::QemuEvent(name) => write!(f, "qemu-event {name}"),
            Self::PressUntil(text) => write!(f, "press-until {text:?}"),
            Self::Reset(by) => write!(f, "reset {by:?}"),
            Self::Down(action) => write!(f, "down {action}"),
            Self::Unmounted(_) => write!(f, "unmounted"),
            Self::PauseMillis(millis) => write!(f, "pause-millis {millis}"),
            Self::PowerCut(_) => write!(f, "power-cut"),
        }
    }
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

fn default_path() -> String {
    "/".to_owned()
}

fn default_status() -> u16 {
    200
}

impl Scenario {
    /// Reads one file's text; `path` is for messages.
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
        ensure!(matches!(self.steps.first(), Some(Step::Boot(_))), "the first step must be `boot`");
        let lan = self.network == Network::Lan;
        let mut running = false;
        for (at, step) in self.steps.iter().enumerate() {
            let number = at + 1;
            match step {
                Step::Boot(_) if running => {
                    bail!("step {number}: `boot` while the machine still runs")
                }
                Step::Boot(_) => running = true,
                Step::Unmounted(_) if running => {
                    bail!("step {number}: `unmounted` while the machine still runs")
                }
                Step::StallDisk(_) | Step::ResumeDisk(_) | Step::Unmounted(_)
                    if self.disk.is_none() =>
                {
                    bail!("step {number}: there is no `disk`")
                }
                Step::Unmounted(_) => {}
                _ if !running => bail!("step {number}: no machine runs here"),
                Step::Down(_) | Step::Reset(_) | Step::PowerCut(_) => running = false,
                Step::Plug(Plug { slot, .. }) | Step::Unplug(slot)
                    if !(1..=self.slots).contains(slot) =>
                {
                    bail!("step {number}: slot {slot} is not among the {} `slots`", self.slots)
                }
                Step::Lan(_) if !lan => bail!("step {number}: `lan` needs `network = \"lan\"`"),
                Step::Get(get) if lan || !self.ports.contains(&get.port) => {
                    bail!(
                        "step {number}: port {} is not among `ports`, or `network` is not `user`",
                        get.port
                    )
                }
                Step::Probe(_) | Step::Act(_) | Step::Refused(_) | Step::Figure(_)
                    if lan || !self.ports.contains(&super::PROBE_PORT) =>
                {
                    bail!("step {number}: the probe needs {} among `ports`", super::PROBE_PORT)
                }
                _ => {}
            }
        }
        let judged = self.steps.iter().any(|step| matches!(step, Step::Down(_)));
        ensure!(judged || self.once.is_empty(), "`once` needs a boot that ends with `down`");
        ensure!(!running, "the last step must be `down`, `reset` or `power-cut`");
        Ok(())
    }

    /// True if it measures time, so that other work on the host could fail it.
    pub fn measures_time(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Elapsed(_) | Step::Figure(_)))
    }

    /// The images that it boots, one for each boot.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().filter_map(|step| {
            if let Step::Boot(image) = step { Some(image.as_str()) } else { None }
        })
    }
}

/// All scenarios, `NAME.toml` in this folder, by name.
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
