//! The conversation with one client as a pure machine: bytes in, bytes and effects out.
//!
//! It answers the calls of kubelet (`pkg/kubelet/nodeshutdown/systemd/inhibit_linux.go`) and
//! refuses all others with the errors of a bus. Making a pipe and reading a file are [`Effect`]s
//! that the caller carries out and reports back.

use std::time::Duration;

use super::auth::{Auth, Progress};
use super::wire::{self, Body, CALL, Message, Out, Value, WireError};

/// The interface with the inhibitor and the signal, and its object.
const MANAGER: &str = "org.freedesktop.login1.Manager";
const LOGIN1: &str = "org.freedesktop.login1";
const LOGIN1_PATH: &str = "/org/freedesktop/login1";

/// The bus' own interface, and its name as a sender.
const BUS: &str = "org.freedesktop.DBus";

/// The signal that announces a shutdown.
const PREPARE: &str = "PrepareForShutdown";

/// The only property that kubelet reads.
const DELAY: &str = "InhibitDelayMaxUSec";

/// The names of errors, as on a bus.
const UNKNOWN_METHOD: &str = "org.freedesktop.DBus.Error.UnknownMethod";
const UNKNOWN_PROPERTY: &str = "org.freedesktop.DBus.Error.UnknownProperty";
const INVALID_ARGS: &str = "org.freedesktop.DBus.Error.InvalidArgs";
const ACCESS_DENIED: &str = "org.freedesktop.DBus.Error.AccessDenied";
const FAILED: &str = "org.freedesktop.DBus.Error.Failed";

/// Work that the caller must do for a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send these bytes.
    Send(Vec<u8>),
    /// Read again the time that the client wants before a shutdown, then call
    /// [`Connection::reloaded`].
    Reload {
        /// The call's serial, or 0 if no reply is expected.
        serial: u32,
    },
    /// Make an inhibitor, then call [`Connection::inhibited`] or [`Connection::failed`].
    Inhibit {
        /// The call's serial.
        serial: u32,
    },
}

/// The reason why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The client violated the authentication protocol.
    Auth,
    /// The client sent a malformed message.
    Wire(WireError),
}

#[derive(Debug)]
enum Stage {
    Auth(Auth),
    Messages { descriptors: bool },
}

/// The connection of one client.
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
    /// Returns the connection of a new client, with its number on this bus, its user id from the
    /// kernel, and the bus' id.
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

    /// True after `Hello`. The time before it is limited.
    #[must_use]
    pub const fn greeted(&self) -> bool {
        self.greeted
    }

    /// True while a message or a line is incomplete.
    #[must_use]
    pub fn waits_for_the_rest(&self) -> bool {
        !self.input.is_empty()
    }

    /// True if the client wants to be notified of a shutdown.
    #[must_use]
    pub const fn watching(&self) -> bool {
        self.watching
    }

    /// Returns the time that the client wants before a shutdown, zero if it has not asked.
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

    /// Answers a message. Replies and signals of clients are ignored.
    fn answer(&mut self, message: &Message) -> Option<Effect> {
        if message.kind != CALL {
            return None;
        }
        let effect = self.call(message);
        match effect {
            Effect::Reload { .. } if message.no_reply => Some(Effect::Reload { serial: 0 }),
            // An inhibitor that the client cannot receive would be released at once.
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
            _ if !self.greeted => {
                self.error(to, ACCESS_DENIED, "Hello must come first, and only once")
            }
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
                self.error(to, UNKNOWN_PROPERTY, "only login1's InhibitDelayMaxUSec exists")
            }
            (MANAGER, "Inhibit", ["shutdown", _, _, "delay"]) => self.inhibit(to),
            (MANAGER, "Inhibit", _) => {
                self.error(to, INVALID_ARGS, "only shutdown can be inhibited, and only delayed")
            }
            ("org.freedesktop.systemd1.Manager", "KillUnit", _) if is_reload(message) => {
                Effect::Reload { serial: to }
            }
            _ => self.error(to, UNKNOWN_METHOD, "PID 1 has only what kubelet's shutdown needs"),
        }
    }

    fn inhibit(&mut self, to: u32) -> Effect {
        match self.stage {
            Stage::Messages { descriptors: true } => Effect::Inhibit { serial: to },
            _ => self.error(to, INVALID_ARGS, "descriptors were not negotiated"),
        }
    }

    /// Returns the reply with the inhibitor's descriptor.
    pub fn inhibited(&mut self, serial: u32) -> Vec<u8> {
        self.message(Out::Reply { to: serial }, LOGIN1, Body::Descriptor)
    }

    /// Returns the answer to a call that failed, or `None` if no answer is expected.
    pub fn failed(&mut self, serial: u32, why: &str) -> Option<Vec<u8>> {
        let out = Out::Error { to: serial, name: FAILED };
        (serial != 0).then(|| self.message(out, BUS, Body::Text(why)))
    }

    /// Stores the time that the client wants. Returns the answer, or `None` if no answer is
    /// expected.
    pub fn reloaded(&mut self, serial: u32, grace: Duration) -> Option<Vec<u8>> {
        self.grace = grace;
        let out = Out::Reply { to: serial };
        (serial != 0).then(|| self.message(out, "org.freedesktop.systemd1", Body::Empty))
    }

    /// Returns the signal that announces a shutdown.
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
        // A client has no name before `Hello`.
        let name = if self.greeted { &self.name } else { "" };
        wire::message(self.serial, name, sender, out, body)
    }
}

/// Returns the body if it consists of strings only.
fn texts(message: &Message) -> Vec<&str> {
    let texts = message.body.iter().map(|value| match value {
        Value::Text(text) => Some(text.as_str()),
        _ => None,
    });
    texts.collect::<Option<_>>().unwrap_or_default()
}

/// True for `KillUnit("systemd-logind.service", "all", SIGHUP)`.
fn is_reload(message: &Message) -> bool {
    matches!(
        &message.body[..],
        [Value::Text(unit), Value::Text(_), Value::Signed(1)] if unit == "systemd-logind.service"
    )
}

/// True if a match rule matches the announcement (D-Bus Specification, "Match Rules").
///
/// A rule about an argument or a destination does not match, because the announcement has neither.
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
