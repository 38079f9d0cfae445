//! The instructions of a scenario file, one for each table in its list.
//!
//! Parsing is strict, so that a typing mistake is an error and not a missing check. An instruction
//! that waits has no deadline of its own, because the host may be slow: it fails when the node
//! shows no sign of life for [`crate::qemu::SILENCE`].

use std::fmt;
use std::net::Ipv4Addr;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::disks::{Damage, Enlarge};
use super::handed::Handed;
use crate::cluster::{Channel, Credentials};

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Instruction {
    /// Starts a machine with the image of the build file `NAME.toml` in `tests/vm`.
    Boot(String),
    /// Waits for a console line with this text, after the line that the last such instruction found.
    Console(String),
    /// Sends a request to a port of the node until the answer is as expected.
    Get(Get),
    /// Requests a page of the probe pod until it is as expected.
    Probe(Look),
    /// Has the probe pod do something, once.
    Act(Look),
    /// Requests these paths of the node's own services without credentials, on every address and port
    /// that they listen on, and expects refusals.
    Refused(Vec<String>),
    /// Compares a figure on a page of the probe pod, a line `NAME NUMBER`, with bounds.
    Figure(Figure),
    /// Changes or checks the scenario's own network.
    Lan(Lan),
    /// Plugs the network cable in or pulls it out.
    Cable(Cable),
    /// Serves the time on the host from now on.
    ServeTime(Always),
    /// Compares the time between two console lines with a bound.
    Elapsed(Elapsed),
    /// Stops all reads and writes of the data disk.
    StallDisk(Always),
    /// Lets the reads and writes of the data disk continue.
    ResumeDisk(Always),
    /// Stops reading the serial port.
    StopConsole(Always),
    /// Reads the serial port again.
    ResumeConsole(Always),
    /// Plugs a device into a slot while the machine runs.
    Plug(Plug),
    /// Unplugs the device in this slot and waits until the node has released it.
    Unplug(u8),
    /// Counts the console lines with a text.
    Said(Said),
    /// Presses the power button.
    PowerButton(Always),
    /// Presses ctrl, alt and delete.
    CtrlAltDel(Always),
    /// Waits for an event of QEMU; events before the last command to QEMU do not count.
    QemuEvent(String),
    /// Presses the power button each second until a console line has this text.
    PressUntil(String),
    /// Waits until the machine is reset without a last message from PID 1.
    Reset(Reset),
    /// Waits for a clean `power-off`, `reboot` or `halt`. A halted machine stays on.
    Down(String),
    /// Checks in the superblock of the data disk that its file system was unmounted.
    Unmounted(Always),
    /// Enlarges one of the `disks` between two boots.
    Enlarge(Enlarge),
    /// Damages the file system of a data partition between two boots.
    Damage(Damage),
    /// Replays the journal of a data partition and checks the file system.
    Sound(String),
    /// Checks that these disks still have their first content.
    Unchanged(Vec<String>),
    /// Waits this long while the node runs.
    PauseMillis(u64),
    /// Cuts the power.
    PowerCut(Always),
    /// Chooses the node of the cluster that the next instructions mean; the first one is node 1.
    Node(u8),
    /// Runs kubectl until its output is as expected.
    Kubectl(Kubectl),
    /// Waits until the watch of `cargo xtask cluster` has reported the chosen node as Ready, or as not
    /// Ready.
    Ready(bool),
    /// Applies the objects of the file NAME in `tests/vm/cluster`.
    Apply(String),
    /// Stops or starts the API server.
    Api(Api),
    /// Checks that every image has the bytes that it had at its first boot.
    SameImage(Always),
    /// Sends the credentials of the next boots through another channel.
    Channel(Channel),
    /// Replaces the credentials of the next boots.
    Credentials(Credentials),
    /// Has the probe give the running node these credentials.
    Late(Credentials),
    /// Replaces the credentials of the next boots of a machine without a cluster.
    Hand(Vec<Handed>),
}

/// A state of the network cable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cable {
    /// Plugged in, as at the start.
    In,
    /// Pulled out.
    Out,
}

/// A command of kubectl, as the cluster's administrator.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Kubectl {
    /// The arguments.
    pub args: Vec<String>,
    /// Texts that the output must contain.
    #[serde(default)]
    pub contains: Vec<String>,
    /// Texts that the output must not contain.
    #[serde(default)]
    pub lacks: Vec<String>,
    /// True if the command must fail; its messages count as output then.
    #[serde(default)]
    pub fails: bool,
}

/// A state of the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Api {
    /// Ends its process.
    Stop,
    /// Starts it again and waits until it is ready.
    Start,
}

/// The cause of a machine's reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reset {
    /// The hardware watchdog, because PID 1 no longer feeds it.
    Watchdog,
    /// The kernel, because PID 1 requested it or because the kernel panicked.
    Kernel,
}

/// The value `true`, for instructions without an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "bool")]
pub struct Always;

impl TryFrom<bool> for Always {
    type Error = &'static str;

    fn try_from(value: bool) -> Result<Self, Self::Error> {
        if value {
            Ok(Self)
        } else {
            Err("this instruction takes `true`; delete it to leave it out")
        }
    }
}

/// A request over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Get {
    /// The node's port, one of the scenario's `ports`.
    pub port: u16,
    /// The path.
    #[serde(default = "default_path")]
    pub path: String,
    /// The expected status.
    #[serde(default = "default_status")]
    pub status: u16,
    /// True for a request over TLS; any certificate is accepted.
    #[serde(default)]
    pub tls: bool,
    /// A text that the page must contain.
    pub contains: Option<String>,
    /// Texts that the page must not contain.
    #[serde(default)]
    pub lacks: Vec<String>,
    /// The number of lines that the page must have.
    pub lines: Option<usize>,
}

/// A request to the probe pod.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Look {
    /// The path.
    pub path: String,
    /// The file in `tests/vm/golden` that the page must equal.
    pub golden: Option<String>,
    /// Texts that the page must contain.
    #[serde(default)]
    pub contains: Vec<String>,
    /// Texts that the page must not contain.
    #[serde(default)]
    pub lacks: Vec<String>,
    /// Bounds of the one number on the page.
    pub between: Option<[u64; 2]>,
}

/// A figure and its bounds.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Figure {
    /// The path on the probe pod.
    pub path: String,
    /// The first word of the figure's line.
    pub name: String,
    /// The lower bound.
    #[serde(default)]
    pub at_least: u64,
    /// The upper bound.
    pub at_most: u64,
    /// Seconds that the node is left alone before the request.
    #[serde(default)]
    pub after_seconds: u64,
}

/// A device for a slot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Plug {
    /// QEMU's name of the device, as after `-device`.
    pub device: String,
    /// The slot, from 1 to the scenario's `slots`.
    pub slot: u8,
    /// The device's properties, by QEMU's names.
    #[serde(default)]
    pub with: Map<String, Value>,
}

/// A text of the console and the number of lines so far that must have it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Said {
    /// A part of the line.
    pub text: String,
    /// The number of lines.
    pub times: usize,
}

/// Two console lines and the longest time between them, by the kernel's clock.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Elapsed {
    /// A part of the first line; the last such line before `to` counts.
    pub from: String,
    /// A part of the second line, which must be on the console already.
    pub to: String,
    /// The upper bound in milliseconds.
    pub within_millis: u64,
}

/// An instruction for the scenario's own network.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lan {
    /// Lets the DHCP server answer from now on, as it does at the start.
    Serve(Always),
    /// Keeps the DHCP server silent from now on.
    Silent(Always),
    /// Has the DHCP server refuse the next request for a lease and then give another address.
    Nak(Always),
    /// Waits for this many leases since the server last changed.
    Acked(u32),
    /// Waits for this many unanswered messages since the server fell silent.
    Unanswered(u32),
    /// Waits until the node answers a ping at this address.
    Answers(Ipv4Addr),
}

/// The instruction and its main argument, for progress and errors.
impl fmt::Display for Instruction {
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
            Self::Cable(cable) => write!(f, "cable {cable:?}"),
            Self::ServeTime(_) => write!(f, "serve-time"),
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
            Self::Enlarge(enlarge) => write!(f, "enlarge {}", enlarge.disk),
            Self::Damage(damage) => write!(f, "damage {}", damage.disk),
            Self::Sound(disk) => write!(f, "sound {disk}"),
            Self::Unchanged(disks) => write!(f, "unchanged {}", disks.join(" ")),
            Self::PauseMillis(millis) => write!(f, "pause-millis {millis}"),
            Self::PowerCut(_) => write!(f, "power-cut"),
            Self::Node(number) => write!(f, "node {number}"),
            Self::Kubectl(kubectl) => write!(f, "kubectl {}", kubectl.args.join(" ")),
            Self::Ready(ready) => write!(f, "ready {ready}"),
            Self::Apply(file) => write!(f, "apply {file}"),
            Self::Api(state) => write!(f, "api {state:?}"),
            Self::SameImage(_) => write!(f, "same-image"),
            Self::Channel(channel) => write!(f, "channel {channel:?}"),
            Self::Credentials(_) => write!(f, "credentials"),
            Self::Late(credentials) => {
                let names: Vec<&str> = credentials.keys().map(String::as_str).collect();
                write!(f, "late {}", names.join(", "))
            }
            Self::Hand(handed) => write!(f, "hand {} credentials", handed.len()),
        }
    }
}

fn default_path() -> String {
    "/".to_owned()
}

fn default_status() -> u16 {
    200
}
