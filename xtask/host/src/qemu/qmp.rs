//! QEMU's machine protocol: one JSON value per line over a unix socket (QEMU's `docs/interop/qmp-spec`).
//!
//! One command is sent at a time. Events that arrive between a command and its answer are skipped.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

/// The longest time for an answer; QEMU answers most commands at once.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// A connection to a running QEMU.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects to the socket `name` in `dir`.
    ///
    /// A socket's address has room for 108 bytes, and a folder's path may be longer. The address
    /// therefore names the folder by its descriptor.
    pub fn connect(dir: &Path, name: &str) -> Result<Self> {
        let folder = File::open(dir).with_context(|| format!("cannot open {}", dir.display()))?;
        let address = format!("/proc/self/fd/{}/{name}", folder.as_raw_fd());
        let socket = UnixStream::connect(address)
            .with_context(|| format!("cannot connect to QEMU's socket `{name}`"))?;
        socket.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        let mut qmp = Self { reader: BufReader::new(socket) };
        qmp.line().context("cannot read QEMU's greeting")?;
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Sends a command and returns QEMU's answer.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let mut request = json!({ "execute": command, "arguments": arguments }).to_string();
        request.push('\n');
        let sent = self.reader.get_mut().write_all(request.as_bytes());
        sent.with_context(|| format!("cannot send `{command}` to QEMU"))?;
        loop {
            let answer =
                self.line().with_context(|| format!("cannot read QEMU's answer to `{command}`"))?;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = answer.get("error") {
                bail!(
                    "QEMU refuses `{command}`: {}",
                    error["desc"].as_str().unwrap_or("no reason given")
                );
            }
        }
    }

    /// Waits for an event; events before the last command do not count.
    pub fn wait_for_event(&mut self, name: &str, patience: Duration) -> Result<()> {
        let context = || format!("there was no {name} within {} s", patience.as_secs());
        let end = Instant::now() + patience;
        loop {
            // Other events do not extend the deadline. A timeout of zero would mean forever.
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.reader.get_mut().set_read_timeout(Some(left))?;
            if self.line().with_context(context)?["event"] == name {
                break;
            }
        }
        self.reader.get_mut().set_read_timeout(Some(ANSWER_TIME_MAX))?;
        Ok(())
    }

    /// Presses the power button (ACPI).
    pub fn power_button(&mut self) -> Result<()> {
        self.execute("system_powerdown", &json!({})).map(drop)
    }

    /// Presses several keys at the same time (QEMU's names, `QKeyCode`).
    pub fn press(&mut self, keys: &[&str]) -> Result<()> {
        let keys: Vec<Value> =
            keys.iter().map(|key| json!({ "type": "qcode", "data": key })).collect();
        self.execute("send-key", &json!({ "keys": keys })).map(drop)
    }

    /// Plugs a device with these properties into a [`slot`].
    pub fn plug(&mut self, device: &str, slot: u8, with: &Map<String, Value>) -> Result<()> {
        let mut arguments = with.clone();
        let place = [("driver", device), ("id", &plugged(slot)), ("bus", &format!("slot{slot}"))];
        arguments.extend(place.map(|(key, value)| (key.to_owned(), value.into())));
        self.execute("device_add", &arguments.into()).map(drop)
    }

    /// Requests that the guest release the device in a slot; the event `DEVICE_DELETED` confirms it.
    pub fn unplug(&mut self, slot: u8) -> Result<()> {
        self.execute("device_del", &json!({ "id": plugged(slot) })).map(drop)
    }

    /// Limits the throughput of a disk, in bytes per second; 0 removes the limit and releases waiting
    /// requests.
    pub fn limit_bytes(&mut self, disk: &str, per_second: u64) -> Result<()> {
        let arguments = json!({
            "device": disk, "bps": per_second, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0,
        });
        self.execute("block_set_io_throttle", &arguments).map(drop)
    }

    /// Sets if a network has a link to its card.
    pub fn link(&mut self, network: &str, up: bool) -> Result<()> {
        self.execute("set_link", &json!({ "name": network, "up": up })).map(drop)
    }

    fn line(&mut self) -> Result<Value> {
        let mut text = String::new();
        if self.reader.read_line(&mut text)? == 0 {
            bail!("the connection was closed");
        }
        serde_json::from_str(&text).with_context(|| format!("not JSON: {}", text.trim_end()))
    }
}

/// QEMU's arguments for a slot that [`Qmp::plug`] can use.
#[must_use]
pub fn slot(number: u8) -> [String; 2] {
    let port = format!("pcie-root-port,id=slot{number},chassis={number},slot={number}");
    ["-device".to_owned(), port]
}

/// QEMU's name of the device in a slot.
fn plugged(slot: u8) -> String {
    format!("in-slot{slot}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// Sends a command to a fake QEMU that writes these lines.
    fn ask(lines: &'static str) -> Result<Value> {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("qmp")).unwrap();
        let server = thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let greeting = "{\"QMP\": {}}\n{\"return\": {}}\n";
            peer.write_all(format!("{greeting}{lines}").as_bytes()).unwrap();
            // The socket stays open until the other side has closed, so that it can still send.
            let _ = std::io::copy(&mut peer, &mut std::io::sink());
        });
        let result =
            Qmp::connect(dir.path(), "qmp").and_then(|mut qmp| qmp.execute("stop", &json!({})));
        server.join().unwrap();
        result
    }

    #[test]
    fn events_before_an_answer_are_skipped() {
        let answer = ask("{\"event\": \"STOP\"}\n{\"return\": {\"a\": 1}}\n").unwrap();
        assert_eq!(answer, json!({ "a": 1 }));
    }

    #[test]
    fn a_refusal_carries_qemus_reason() {
        let error =
            ask("{\"error\": {\"class\": \"GenericError\", \"desc\": \"not now\"}}\n").unwrap_err();
        assert!(error.to_string().contains("`stop`: not now"), "{error:#}");
    }

    #[test]
    fn only_the_named_event_ends_the_wait() {
        let wait = |name: &'static str| {
            let dir = tempfile::tempdir().unwrap();
            let listener = UnixListener::bind(dir.path().join("qmp")).unwrap();
            let server = thread::spawn(move || {
                let (mut peer, _) = listener.accept().unwrap();
                let words = "{\"QMP\": {}}\n{\"return\": {}}\n{\"event\": \"STOP\"}\n{\"event\": \"WATCHDOG\"}\n";
                peer.write_all(words.as_bytes()).unwrap();
                // The other side still has to send its first command.
                let mut request = String::new();
                BufReader::new(peer).read_line(&mut request).unwrap();
            });
            let mut qmp = Qmp::connect(dir.path(), "qmp").unwrap();
            server.join().unwrap();
            qmp.wait_for_event(name, ANSWER_TIME_MAX)
        };
        assert!(wait("WATCHDOG").is_ok());
        assert!(format!("{:#}", wait("RESET").unwrap_err()).contains("no RESET"));
    }

    #[test]
    fn an_answer_that_is_not_json_is_quoted() {
        let error = format!("{:#}", ask("hello\n").unwrap_err());
        assert!(error.contains("not JSON: hello"), "{error}");
    }
}
