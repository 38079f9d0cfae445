//! The health of a pod that serves nothing else, answered over HTTP on the loopback interface.
//!
//! The daemon reports its state and the time for which the state is valid ([`Health::state`]). A thread
//! answers `GET /health` (liveness) and `GET /ready` (readiness) with 200 or 503. A daemon that hangs
//! reports nothing, so its state expires and it becomes unhealthy. The clock is `CLOCK_BOOTTIME`,
//! because it does not jump when the time of day is set.
//!
//! ```yaml
//! env: [{ name: KILN_HEALTH_ADDRESS, value: "127.0.0.1:10246" }]
//! livenessProbe: { httpGet: { host: 127.0.0.1, port: 10246, path: /health } }
//! ```
//!
//! Such pods use the host's network, so the address must be one of the loopback interface: nothing
//! listens on the node's own addresses. An exec probe would need no port, but it starts a process in
//! the container each time.

use std::fmt::Display;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use kiln_base::time;
use rustix::time::ClockId;

use crate::exit::Exit;

/// Environment variable with the address and port. Without it nothing listens.
pub const VARIABLE: &str = "KILN_HEALTH_ADDRESS";

/// The largest head of a request in bytes; kubelet's has about 150.
const HEAD_BYTES_MAX: usize = 1024;

/// The time limit for a client. Clients are served one after the other.
const CLIENT_TIME_MAX: Duration = Duration::from_secs(1);

/// The pause after a failed accept, such as one without a free descriptor.
const PAUSE: Duration = Duration::from_secs(1);

/// The size of the thread's stack.
const STACK: usize = 64 * 1024;

/// The state of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The daemon runs, but has not reached its goal yet (such as a lease).
    Alive,
    /// The daemon has reached its goal.
    Ready,
}

/// The last reported state and the time until which it is valid, once there was a report.
type Shared = Arc<Mutex<Option<(State, Duration)>>>;

/// The daemon's side: reports the state.
#[derive(Debug)]
pub struct Health {
    shared: Shared,
    last: Option<State>,
}

impl Health {
    /// Starts the thread that answers at the address in [`VARIABLE`].
    ///
    /// An invalid address is a mistake in the manifest. A port that is in use is only logged, because it
    /// is no reason to stop a working daemon.
    pub fn new() -> anyhow::Result<Self> {
        let health = Self { shared: Shared::default(), last: None };
        if let Some(address) = std::env::var_os(VARIABLE) {
            let address = address.to_string_lossy();
            let address = loopback(&address)
                .with_context(|| format!("{VARIABLE}={address}"))
                .context(Exit::Config)?;
            match TcpListener::bind(address) {
                Ok(listener) => health.serve(listener)?,
                Err(error) => tracing::warn!("cannot listen on {address} for probes: {error}"),
            }
        }
        Ok(health)
    }

    fn serve(&self, listener: TcpListener) -> anyhow::Result<()> {
        let shared = Arc::clone(&self.shared);
        let work = move || {
            for client in listener.incoming() {
                match client {
                    // A client that goes away or is too slow gets no answer.
                    Ok(client) => drop(answer(client, &shared)),
                    Err(_) => thread::sleep(PAUSE),
                }
            }
        };
        let builder = thread::Builder::new().name("health".into()).stack_size(STACK);
        builder.spawn(work).context("cannot start the thread for probes").map(drop)
    }

    /// Reports a state that is valid for `validity` from now; must be called again well before it
    /// expires.
    pub fn state(&mut self, state: State, validity: Duration) {
        if self.last != Some(state) {
            tracing::info!("{}", state.word());
            self.last = Some(state);
        }
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        *shared = Some((state, boot_time() + validity));
    }
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Ready => "ready",
        }
    }
}

/// Parses an address of the loopback interface.
fn loopback(text: &str) -> anyhow::Result<SocketAddr> {
    let address: SocketAddr = text.parse().context("not an address and port")?;
    ensure!(address.ip().is_loopback(), "not an address of the loopback interface");
    Ok(address)
}

fn answer(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    client.set_read_timeout(Some(CLIENT_TIME_MAX))?;
    client.set_write_timeout(Some(CLIENT_TIME_MAX))?;
    let begin = boot_time();
    let (mut head, mut length) = ([0; HEAD_BYTES_MAX], 0);
    // Bytes that are not read would make the kernel reset the connection, and the answer be lost.
    while !head[..length].windows(4).any(|bytes| bytes == b"\r\n\r\n") && length < head.len() {
        match client.read(&mut head[length..])? {
            0 => break,
            more => length += more,
        }
        if boot_time().saturating_sub(begin) > CLIENT_TIME_MAX {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    let reported = *shared.lock().unwrap_or_else(PoisonError::into_inner);
    let (status, body) = page(&head[..length], reported, boot_time());
    let length = body.len();
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// Returns status and body for a request (RFC 9112, section 3).
fn page(head: &[u8], reported: Option<(State, Duration)>, now: Duration) -> (&'static str, String) {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let wanted = match line {
        b"GET /health HTTP/1.1" => State::Alive,
        b"GET /ready HTTP/1.1" => State::Ready,
        _ => return ("404 Not Found", "the pages are /health and /ready\n".into()),
    };
    match judge(reported, wanted, now) {
        Ok(()) => ("200 OK", "ok\n".into()),
        Err(error) => ("503 Service Unavailable", format!("{error}\n")),
    }
}

/// Checks that the reported state is the wanted one and that it is valid at `now`.
fn judge(
    reported: Option<(State, Duration)>,
    wanted: State,
    now: Duration,
) -> Result<(), impl Display> {
    match reported {
        None => Err("no state was reported yet".to_owned()),
        Some((state, until)) if now > until => {
            let late = now.saturating_sub(until).as_millis();
            Err(format!("the state {} expired {late} ms ago", state.word()))
        }
        Some((State::Alive, _)) if wanted == State::Ready => Err("alive, but not ready".into()),
        Some(_) => Ok(()),
    }
}

/// Returns the time since the kernel started, including time in suspend.
fn boot_time() -> Duration {
    time::now(ClockId::Boottime)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{HEAD_BYTES_MAX, Health, Shared, State, loopback, page};

    const READY: &[u8] = b"GET /ready HTTP/1.1\r\nHost: 127.0.0.1:10246\r\n\r\n";
    const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1:10246\r\n\r\n";

    fn check(head: &[u8], reported: Option<(State, u64)>, now: u64, expected: &str) {
        let reported = reported.map(|(state, until)| (state, Duration::from_millis(until)));
        let (status, body) = page(head, reported, Duration::from_millis(now));
        assert_eq!(format!("{} {}", &status[..3], body.trim_end()), expected);
    }

    #[test]
    fn a_state_is_valid_until_it_expires() {
        check(READY, Some((State::Ready, 100)), 100, "200 ok");
        check(READY, Some((State::Ready, 100)), 101, "503 the state ready expired 1 ms ago");
        check(HEALTH, Some((State::Alive, 100)), 101, "503 the state alive expired 1 ms ago");
        check(HEALTH, None, 0, "503 no state was reported yet");
    }

    #[test]
    fn a_ready_daemon_is_alive_but_a_daemon_that_is_only_alive_is_not_ready() {
        check(HEALTH, Some((State::Ready, 9)), 0, "200 ok");
        check(HEALTH, Some((State::Alive, 9)), 0, "200 ok");
        check(READY, Some((State::Alive, 9)), 0, "503 alive, but not ready");
    }

    #[test]
    fn only_the_loopback_interface_is_listened_on() {
        for good in ["127.0.0.1:10246", "[::1]:1", "127.9.9.9:0"] {
            assert!(loopback(good).is_ok(), "{good}");
        }
        for bad in ["0.0.0.0:10246", "[::]:1", "10.0.2.15:80", "127.0.0.1", "", "localhost:80"] {
            assert!(loopback(bad).is_err(), "{bad}");
        }
    }

    fn serving() -> (Health, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let health = Health { shared: Shared::default(), last: None };
        health.serve(listener).unwrap();
        (health, address)
    }

    fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    #[test]
    fn a_probe_gets_the_state_that_was_reported() {
        let (mut health, address) = serving();
        assert!(ask(address, READY).starts_with("HTTP/1.1 503 "));
        health.state(State::Ready, Duration::from_hours(1));
        assert!(ask(address, READY).starts_with("HTTP/1.1 200 OK\r\n"));
        health.state(State::Ready, Duration::ZERO);
        assert!(ask(address, HEALTH).starts_with("HTTP/1.1 503 "));
    }

    #[test]
    fn a_client_that_sends_nothing_garbage_or_too_much_does_not_stop_the_next() {
        let (mut health, address) = serving();
        health.state(State::Ready, Duration::from_hours(1));
        let silent = TcpStream::connect(address).unwrap();
        drop(TcpStream::connect(address).unwrap());
        ask(address, &[b'x'; HEAD_BYTES_MAX]);
        assert!(ask(address, b"\r\n\r\n").starts_with("HTTP/1.1 404 "));
        assert!(ask(address, READY).starts_with("HTTP/1.1 200 OK\r\n"));
        drop(silent);
    }

    proptest! {
        #[test]
        fn any_other_request_is_not_found(head in prop::collection::vec(any::<u8>(), 0..200)) {
            let (status, _) = page(&head, Some((State::Ready, Duration::MAX)), Duration::ZERO);
            prop_assert!(status.starts_with("404") || head.starts_with(b"GET /"));
        }
    }
}
