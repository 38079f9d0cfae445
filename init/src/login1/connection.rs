//! One client's conversation as a pure machine: bytes in, bytes and wishes out.
//!
//! It answers what kubelet calls (`pkg/kubelet/nodeshutdown/systemd/inhibit_linux.go`) and refuses
//! everything else with the error that a bus would send. What needs the world, making a pipe and
//! reading a file, is an [`Effect`] that the caller does and reports back.

use std::time::Duration;

use super::auth::{Auth, Progress};
use super::wire::{self, Body, CALL, Message, Out, Value, WireError};

/// Interface that carries the inhibitor and the signal, and its object.
const MANAGER: &str = "org.freedesktop.login1.Manager";
const LOGIN1: &str = "org.freedesktop.login1";
const LOGIN1_PATH: &str = "/org/freedesktop/login1";

/// The bus' own interface, and its name as a sender.
const BUS: &str = "org.freedesktop.DBus";

/// The signal that announces a shutdown.
const PREPARE: &str = "PrepareForShutdown";

/// The one property that kubelet reads.
const DELAY: &str = "InhibitDelayMaxUSec";

/// Errors' names, as a bus has them.
const UNKNOWN_METHOD: &str = "org.freedesktop.DBus.Error.UnknownMethod";
const UNKNOWN_PROPERTY: &str = "org.freedesktop.DBus.Error.UnknownProperty";
const INVALID_ARGS: &str = "org.freedesktop.DBus.Error.InvalidArgs";
const ACCESS_DENIED: &str = "org.freedesktop.DBus.Error.AccessDenied";
const FAILED: &str = "org.freedesktop.DBus.Error.Failed";

/// What the caller must do for a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Read again how long the client wants a shutdown to wait; then [`Connection::reloaded`].
    Reload {
        /// The call's serial; 0 when no reply is expected.
        serial: u32,
    },
    /// Make an inhibitor; then [`Connection::inhibited`] or [`Connection::failed`].
    Inhibit {
        /// The call's serial.
        serial: u32,
    },
}

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The authentication's protocol was not followed.
    Auth,
    /// Bytes that are no message.
    Wire(WireError),
}

#[derive(Debug)]
enum Stage {
    Auth(Auth),
    Messages { descriptors: bool },
}

/// One client.
#[derive(Debug)]
pub struct Connection {
    stage: Stage,
    input: Vec<u8>,
    name: String,
    greeted: bool,
    watching: bool,
    serial: u32,
    grace: Duration,
}

impl Connection {
    /// A new client with its number on this bus, its user id by the kernel, and the bus' id.
    #[must_use]
    pub fn new(number: u64, uid: u32, guid: String) -> Self {
        Self {
            stage: Stage::Auth(Auth::new(uid, guid)),
            input: Vec::new(),
            name: format!(":1.{number}"),
            greeted: false,
            watching: false,
            serial: 0,
            grace: Duration::ZERO,
        }
    }

    /// True after `Hello`: what comes before has a deadline.
    #[must_use]
    pub const fn greeted(&self) -> bool {
        self.greeted
    }

    /// True while a message or line is there in part.
    #[must_use]
    pub fn waits_for_the_rest(&self) -> bool {
        !self.input.is_empty()
    }

    /// True when the client wants to be told about a shutdown.
    #[must_use]
    pub const fn watching(&self) -> bool {
        self.watching
    }

    /// How long the client asked a shutdown to wait for it; zero until it did.
    #[must_use]
    pub const fn grace(&self) -> Duration {
        self.grace
    }

    /// Takes bytes from the client.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Vec<Effect>, Broken> {
        self.input.extend_from_slice(bytes);
        let mut effects = Vec::new();
        if let Stage::Auth(auth) = &mut self.stage {
            let mut output = Vec::new();
            let progress = auth.advance(&mut self.input, &mut output);
            if !output.is_empty() {
                effects.push(Effect::Send(output));
            }
            match progress {
                Progress::Open => return Ok(effects),
                Progress::Broken => return Err(Broken::Auth),
                Progress::Done { descriptors } => self.stage = Stage::Messages { descriptors },
            }
        }
        while let Some(message) = self.next_message().map_err(Broken::Wire)? {
            effects.extend(self.answer(&message));
        }
        Ok(effects)
    }

    fn next_message(&mut self) -> Result<Option<Message>, WireError> {
        match wire::frame(&self.input)? {
            Some(length) if length <= self.input.len() => {
                let bytes: Vec<u8> = self.input.drain(..length).collect();
                wire::parse(&bytes).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Replies and signals of clients mean nothing here.
    fn answer(&mut self, message: &Message) -> Option<Effect> {
        if message.kind != CALL {
            return None;
        }
        let effect = self.call(message);
        match effect {
            Effect::Reload { .. } if message.no_reply => Some(Effect::Reload { serial: 0 }),
            // An inhibitor that nobody receives would be released at once.
            Effect::Send(_) | Effect::Inhibit { .. } if message.no_reply => None,
            effect => Some(effect),
        }
    }

    fn call(&mut self, message: &Message) -> Effect {
        let to = message.serial;
        let texts = texts(message);
        match (message.interface.as_str(), message.member.as_str(), &texts[..]) {
            (BUS, "Hello", []) if !self.greeted => {
                self.greeted = true;
                let name = self.name.clone();
                self.reply(to, BUS, Body::Text(&name))
            }
            _ if !self.greeted => self.error(to, ACCESS_DENIED, "Hello comes first, and once"),
            (BUS, "AddMatch", [rule]) => {
                self.watching |= rule_matches(rule);
                self.reply(to, BUS, Body::Empty)
            }
            (BUS, "RemoveMatch", [rule]) => {
                self.watching &= !rule_matches(rule);
                self.reply(to, BUS, Body::Empty)
            }
            ("org.freedesktop.DBus.Peer", "Ping", []) => self.reply(to, BUS, Body::Empty),
            ("org.freedesktop.DBus.Properties", "Get", [MANAGER, DELAY]) => {
                let micros = u64::try_from(self.grace.as_micros()).unwrap_or(u64::MAX);
                self.reply(to, LOGIN1, Body::VariantU64(micros))
            }
            ("org.freedesktop.DBus.Properties", "Get", [_, _]) => {
                self.error(to, UNKNOWN_PROPERTY, "there is login1's InhibitDelayMaxUSec only")
            }
            (MANAGER, "Inhibit", ["shutdown", _, _, "delay"]) => self.inhibit(to),
            (MANAGER, "Inhibit", _) => {
                self.error(to, INVALID_ARGS, "only shutdown can be inhibited, and only delayed")
            }
            ("org.freedesktop.systemd1.Manager", "KillUnit", _) if is_reload(message) => {
                Effect::Reload { serial: to }
            }
            _ => self.error(to, UNKNOWN_METHOD, "PID 1 offers what kubelet's shutdown needs"),
        }
    }

    fn inhibit(&mut self, to: u32) -> Effect {
        match self.stage {
            Stage::Messages { descriptors: true } => Effect::Inhibit { serial: to },
            _ => self.error(to, INVALID_ARGS, "descriptors were not negotiated"),
        }
    }

    /// The reply that carries the inhibitor's descriptor.
    pub fn inhibited(&mut self, serial: u32) -> Vec<u8> {
        self.message(Out::Reply { to: serial }, LOGIN1, Body::Descriptor)
    }

    /// The answer to a call that could not be done; `None` when none is expected.
    pub fn failed(&mut self, serial: u32, why: &str) -> Option<Vec<u8>> {
        let out = Out::Error { to: serial, name: FAILED };
        (serial != 0).then(|| self.message(out, BUS, Body::Text(why)))
    }

    /// Takes the time that the client wants, and answers; `None` when no answer is expected.
    pub fn reloaded(&mut self, serial: u32, grace: Duration) -> Option<Vec<u8>> {
        self.grace = grace;
        let out = Out::Reply { to: serial };
        (serial != 0).then(|| self.message(out, "org.freedesktop.systemd1", Body::Empty))
    }

    /// The signal that announces a shutdown.
    pub fn announcement(&mut self) -> Vec<u8> {
        let out = Out::Signal { path: LOGIN1_PATH, interface: MANAGER, member: PREPARE };
        self.message(out, LOGIN1, Body::Bool(true))
    }

    fn reply(&mut self, to: u32, sender: &str, body: Body<'_>) -> Effect {
        Effect::Send(self.message(Out::Reply { to }, sender, body))
    }

    fn error(&mut self, to: u32, name: &str, text: &str) -> Effect {
        Effect::Send(self.message(Out::Error { to, name }, BUS, Body::Text(text)))
    }

    fn message(&mut self, out: Out<'_>, sender: &str, body: Body<'_>) -> Vec<u8> {
        self.serial = self.serial.checked_add(1).unwrap_or(1);
        // A client that was not greeted has no name yet.
        let name = if self.greeted { &self.name } else { "" };
        wire::message(self.serial, name, sender, out, body)
    }
}

/// The body, if it is strings only.
fn texts(message: &Message) -> Vec<&str> {
    let texts = message.body.iter().map(|value| match value {
        Value::Text(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect::<Option<_>>().unwrap_or_default()
}

/// `KillUnit("systemd-logind.service", "all", SIGHUP)`.
fn is_reload(message: &Message) -> bool {
    matches!(
        &message.body[..],
        [Value::Text(unit), Value::Text(_), Value::Signed(1)] if unit == "systemd-logind.service"
    )
}

/// Whether a match rule lets the announcement through (D-Bus Specification, "Match Rules").
///
/// A rule on something that the announcement does not have, an argument or a destination, does not.
#[must_use]
pub fn rule_matches(rule: &str) -> bool {
    rule.split(',').filter(|part| !part.trim().is_empty()).all(|part| {
        let (key, value) = part.trim().split_once('=').unwrap_or_default();
        let expected = match key {
            "type" => "signal",
            "sender" => LOGIN1,
            "interface" => MANAGER,
            "member" => PREPARE,
            "path" => LOGIN1_PATH,
            _ => return false,
        };
        value.trim_matches('\'') == expected
    })
}
