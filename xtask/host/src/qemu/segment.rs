//! A network segment that several machines share, without root.
//!
//! A QEMU without a machine holds a hub: one port for each machine, a Unix stream socket, and one for
//! QEMU's user-mode network, which has a DHCP server and leads to the host. On the segment, the
//! host's loopback address is [`HOST`]. A machine may leave and come back.
//!
//! Machines listen and the hub connects, because QEMU 10.0 writes to a connection that it has accepted
//! without `O_NONBLOCK`: a machine that does not read its card, such as one whose kernel hangs, would
//! stop the hub, and with it the network of all others.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::qmp::Qmp;
use super::vm::{LOOK, escape};
use crate::port;
use crate::process::{self, Running};
use crate::tool::HostTool;

/// The host's address on the segment; a connection to it reaches 127.0.0.1 of the host.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// The first address that the DHCP server gives to a machine.
pub const FIRST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

/// The number of leases of libslirp's DHCP server (`NB_BOOTP_CLIENTS` in its `bootp.h`).
pub const CARDS_MAX: u8 = 16;

/// QEMU's socket, below the segment's folder.
const QMP: &str = "qmp";

/// QEMU's own messages, below the segment's folder.
const LOG: &str = "segment.log";

/// The pause between two attempts of the hub to reach a machine that does not run.
const RECONNECT_MILLIS: u32 = 200;

/// The longest time until QEMU listens on its socket for commands.
const START_MAX: Duration = Duration::from_mins(1);

/// A running segment, which ends when this is dropped.
#[derive(Debug)]
pub struct Segment {
    running: Mutex<Running>,
    folder: PathBuf,
    routes: Mutex<Routes>,
}

/// The ports of the host that lead to machines.
#[derive(Debug)]
struct Routes {
    qmp: Qmp,
    known: BTreeMap<(Ipv4Addr, u16), u16>,
}

impl Segment {
    /// Starts a segment for this number of cards with its sockets in `folder`, whose path must be short:
    /// a socket's address has room for 108 bytes.
    pub fn start(qemu: &HostTool, folder: &Path, cards: u8) -> Result<Self> {
        ensure!(
            (1..=CARDS_MAX).contains(&cards),
            "a network has 1 to {CARDS_MAX} cards, not {cards}"
        );
        let log = File::create(folder.join(LOG)).context("cannot create the network's log")?;
        let command = qemu.command()?.args(arguments(folder, cards)).dir(folder).own_group();
        let mut running = command.output_to(Stdio::null(), log.into()).spawn()?;
        wait_for_socket(&mut running, folder)?;
        let routes = Routes { qmp: Qmp::connect(folder, QMP)?, known: BTreeMap::new() };
        Ok(Self {
            running: Mutex::new(running),
            folder: folder.to_owned(),
            routes: Mutex::new(routes),
        })
    }

    /// The socket that the machine with this card listens on; cards count from 1.
    #[must_use]
    pub fn socket(&self, card: u8) -> PathBuf {
        socket(&self.folder, card)
    }

    /// Returns the port of the host's loopback address that leads to a machine's port.
    pub fn forward(&self, address: Ipv4Addr, port: u16) -> Result<u16> {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&host) = routes.known.get(&(address, port)) {
            return Ok(host);
        }
        let host = port::free()?;
        let command = format!("hostfwd_add up tcp:127.0.0.1:{host}-{address}:{port}");
        let answer = routes.qmp.monitor(&command)?;
        ensure!(answer.is_empty(), "cannot forward a port to {address}:{port}: {answer}");
        routes.known.insert((address, port), host);
        Ok(host)
    }

    /// Fails if QEMU has ended, which cuts all machines off.
    pub fn check(&self) -> Result<()> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match running.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the nodes' network ended: {status}: {}", log(&self.folder)),
        }
    }
}

fn socket(folder: &Path, card: u8) -> PathBuf {
    folder.join(format!("card{card}"))
}

fn log(folder: &Path) -> String {
    // The log is only a detail of an error message, which is correct without it.
    std::fs::read_to_string(folder.join(LOG)).unwrap_or_default().trim().to_owned()
}

/// QEMU's arguments: a hub with the user-mode network `up` and one socket for each card.
fn arguments(folder: &Path, cards: u8) -> Vec<String> {
    let fixed = ["-nodefaults", "-no-user-config", "-display", "none", "-machine", "none", "-qmp"];
    let mut arguments: Vec<String> = fixed.map(String::from).into();
    arguments.push(format!("unix:{QMP},server=on,wait=off"));
    let mut port = |id: &str, backend: String| {
        let hub = format!("hubport,id=hub-{id},hubid=0,netdev={id}");
        arguments.extend(["-netdev".into(), backend, "-netdev".into(), hub]);
    };
    port("up", "user,id=up".into());
    for card in 1..=cards {
        let id = format!("card{card}");
        let path = escape(&socket(folder, card));
        let backend = format!(
            "stream,id={id},addr.type=unix,addr.path={path},reconnect-ms={RECONNECT_MILLIS}"
        );
        port(&id, backend);
    }
    arguments
}

fn wait_for_socket(running: &mut Running, folder: &Path) -> Result<()> {
    let until = Instant::now() + START_MAX;
    while !folder.join(QMP).exists() {
        process::check_interrupt()?;
        if let Some(status) = running.try_wait()? {
            bail!("cannot start the nodes' network: {status}: {}", log(folder));
        }
        ensure!(Instant::now() < until, "the nodes' network does not start: {}", log(folder));
        std::thread::sleep(LOOK);
    }
    Ok(())
}

impl Qmp {
    /// Runs a command of QEMU's monitor for people; most answer nothing if they succeed.
    fn monitor(&mut self, command: &str) -> Result<String> {
        let answer = self.execute("human-monitor-command", &json!({ "command-line": command }))?;
        Ok(answer.as_str().unwrap_or_default().trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_card_has_a_socket_on_the_hub() {
        let arguments = arguments(Path::new("/a,b"), 2);
        let has = |text: &str| arguments.iter().any(|argument| argument == text);
        assert!(has("user,id=up") && has("hubport,id=hub-up,hubid=0,netdev=up"), "{arguments:?}");
        let card = "stream,id=card2,addr.type=unix,addr.path=/a,,b/card2,reconnect-ms=200";
        assert!(has(card), "{arguments:?}");
        assert!(has("hubport,id=hub-card2,hubid=0,netdev=card2") && !has("user,id=card3"));
    }
}
