//! QEMU's machine protocol: one JSON value per line over a unix socket (QEMU's `docs/interop/qmp-spec`).
//!
//! Only what the builder needs: connect, agree, ask one thing at a time. Events between a question
//! and its answer are skipped; what matters is told by the console and by QEMU's end.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

/// How long QEMU may take for an answer; it gives most at once.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to a running QEMU.
#[derive(Debug)]
pub struct Qmp {
    reader: BufReader<UnixStream>,
}

impl Qmp {
    /// Connects to the socket `name` in `dir`.
    ///
    /// A socket's address has room for 108 bytes, a folder's path may have more: the folder is
    /// opened and named by its descriptor.
    pub fn connect(dir: &Path, name: &str) -> Result<Self> {
        let folder = File::open(dir).with_context(|| format!("cannot open {}", dir.display()))?;
        let address = format!("/proc/self/fd/{}/{name}", folder.as_raw_fd());
        let socket = UnixStream::connect(address)
            .with_context(|| format!("cannot connect to QEMU's socket `{name}`"))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut qmp = Self { reader: BufReader::new(socket) };
        qmp.line().context("QEMU did not greet")?;
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Asks one thing and gives QEMU's answer.
    pub fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let mut question = json!({ "execute": command, "arguments": arguments }).to_string();
        question.push('\n');
        let sent = self.reader.get_mut().write_all(question.as_bytes());
        sent.with_context(|| format!("cannot send `{command}` to QEMU"))?;
        loop {
            let answer =
                self.line().with_context(|| format!("QEMU gave no answer to `{command}`"))?;
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

    /// Waits for an event; those that came before the last question are gone.
    pub fn wait_for_event(&mut self, name: &str, patience: Duration) -> Result<()> {
        let context = || format!("there was no {name} within {} s", patience.as_secs());
        let end = Instant::now() + patience;
        loop {
            // Other events do not begin the time anew. A time of nothing would be for ever.
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.reader.get_mut().set_read_timeout(Some(left))?;
            if self.line().with_context(context)?["event"] == name {
                break;
            }
        }
        self.reader.get_mut().set_read_timeout(Some(PATIENCE))?;
        Ok(())
    }

    /// Presses the power button (ACPI).
    pub fn power_button(&mut self) -> Result<()> {
        self.execute("system_powerdown", &json!({})).map(drop)
    }

    /// Presses some keys together (QEMU's names, `QKeyCode`).
    pub fn press(&mut self, keys: &[&str]) -> Result<()> {
        let keys: Vec<Value> =
            keys.iter().map(|key| json!({ "type": "qcode", "data": key })).collect();
        self.execute("send-key", &json!({ "keys": keys })).map(drop)
    }

    /// Puts a device with these properties into a [`slot`].
    pub fn plug(&mut self, device: &str, slot: u8, with: &Map<String, Value>) -> Result<()> {
        let mut arguments = with.clone();
        let place = [("driver", device), ("id", &plugged(slot)), ("bus", &format!("slot{slot}"))];
        arguments.extend(place.map(|(key, value)| (key.to_owned(), value.into())));
        self.execute("device_add", &arguments.into()).map(drop)
    }

    /// Asks the guest to let the device in a slot go; `DEVICE_DELETED` says that it has.
    pub fn unplug(&mut self, slot: u8) -> Result<()> {
        self.execute("device_del", &json!({ "id": plugged(slot) })).map(drop)
    }

    /// Limits what passes to and from a disk, in bytes per second; 0 is no limit, and lets waiting requests go.
    pub fn limit_bytes(&mut self, disk: &str, per_second: u64) -> Result<()> {
        let arguments = json!({
            "device": disk, "bps": per_second, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0,
        });
        self.execute("block_set_io_throttle", &arguments).map(drop)
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

/// QEMU's name of what is in a slot.
fn plugged(slot: u8) -> String {
    format!("in-slot{slot}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// A QEMU that says these lines, whatever it is asked.
    fn ask(lines: &'static str) -> Result<Value> {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("qmp")).unwrap();
        let server = thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let greeting = "{\"QMP\": {}}\n{\"return\": {}}\n";
            peer.write_all(format!("{greeting}{lines}").as_bytes()).unwrap();
            // Closed only when the other side has closed, so that it can still send.
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
    fn an_event_is_waited_for_by_its_name() {
        let wait = |name: &'static str| {
            let dir = tempfile::tempdir().unwrap();
            let listener = UnixListener::bind(dir.path().join("qmp")).unwrap();
            let server = thread::spawn(move || {
                let (mut peer, _) = listener.accept().unwrap();
                let words = "{\"QMP\": {}}\n{\"return\": {}}\n{\"event\": \"STOP\"}\n{\"event\": \"WATCHDOG\"}\n";
                peer.write_all(words.as_bytes()).unwrap();
                // The other side still has to ask for its capabilities.
                let mut question = String::new();
                BufReader::new(peer).read_line(&mut question).unwrap();
            });
            let mut qmp = Qmp::connect(dir.path(), "qmp").unwrap();
            server.join().unwrap();
            qmp.wait_for_event(name, PATIENCE)
        };
        assert!(wait("WATCHDOG").is_ok());
        assert!(format!("{:#}", wait("RESET").unwrap_err()).contains("no RESET"));
    }

    #[test]
    fn what_is_no_json_is_shown() {
        let error = format!("{:#}", ask("hello\n").unwrap_err());
        assert!(error.contains("not JSON: hello"), "{error}");
    }
}
