//! A minimal time server (RFC 5905, section 14): the host's clock, stratum 1, one UDP port.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

/// The UDP port on 127.0.0.1, as in the test manifest of the ntp pod.
pub const PORT: u16 = 11123;

/// Seconds from 1900, the epoch of NTP, to 1970 (RFC 5905, figure 4).
const EPOCH: u64 = 2_208_988_800;

/// The interval at which the server checks for its stop.
const LOOK: Duration = Duration::from_millis(200);

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
}

impl Server {
    /// Starts the server.
    pub fn start() -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, PORT)).with_context(|| {
            format!("cannot serve the time on UDP port {PORT} of 127.0.0.1; stop the program that uses the port")
        })?;
        socket.set_read_timeout(Some(LOOK))?;
        let stop = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&stop);
        thread::spawn(move || {
            let mut request = [0; 512];
            while !ended.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut request) else { continue };
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                if let Some(answer) = answer(&request[..length], now) {
                    // A client that is gone does not need the answer.
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Ok(Self { stop })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Returns the answer to a client's request (mode 3); `now` counts from 1970.
fn answer(request: &[u8], now: Duration) -> Option<[u8; 48]> {
    let first = *request.first()?;
    let origin = request.get(40..48)?;
    if first & 7 != 3 {
        return None;
    }
    let mut out = [0; 48];
    // No leap second, the client's version, mode 4 (server); stratum 1, its poll, precision 2^-20 s.
    out[..4].copy_from_slice(&[first & 0b0011_1000 | 4, 1, request[2], 0xec]);
    out[12..16].copy_from_slice(b"TEST");
    let now = timestamp(now);
    out[16..24].copy_from_slice(&now);
    out[24..32].copy_from_slice(origin);
    out[32..40].copy_from_slice(&now);
    out[40..48].copy_from_slice(&now);
    Some(out)
}

/// Encodes seconds since 1900 modulo 2^32, then the fraction in units of 2^-32 s.
fn timestamp(now: Duration) -> [u8; 8] {
    let seconds = (now.as_secs() + EPOCH) & 0xffff_ffff;
    let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
    (seconds << 32 | fraction).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_repeats_the_timestamp_of_the_request() {
        let mut request = [7; 48];
        request[0] = 0x23;
        let answer = answer(&request, Duration::from_millis(1500)).unwrap();
        assert_eq!((answer[0], answer[1], &answer[24..32]), (0x24, 1, &[7; 8][..]));
        assert_eq!(answer[40..48], [0x83, 0xaa, 0x7e, 0x81, 0x80, 0, 0, 0]);
    }

    #[test]
    fn anything_but_a_clients_request_is_ignored() {
        assert_eq!(answer(&[0x24; 48], Duration::ZERO), None);
        assert_eq!(answer(&[0x23; 47], Duration::ZERO), None);
        assert_eq!(answer(&[], Duration::ZERO), None);
    }
}
