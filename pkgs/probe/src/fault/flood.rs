//! A service that writes its log faster than any disk takes it, and how little that holds it up.

use std::fs;
use std::io::Write;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::service::{FOLDER, notify};
use crate::node::ROOT;

/// Where the flood writes how fast it was rid of its output lately.
const RATE: &str = "rate";

/// Over how long a rate is taken.
const WINDOW: Duration = Duration::from_secs(3);

/// The rate that others are compared with.
static MARK: Mutex<Option<u64>> = Mutex::new(None);

/// Writes for ever, and says that it lives.
pub(super) fn write() -> Result<()> {
    let block = format!("{}\n", "flood ".repeat(20)).repeat(512);
    let mut out = std::io::stdout().lock();
    notify(b"READY=1")?;
    let (mut start, mut bytes) = (Instant::now(), 0_u64);
    loop {
        out.write_all(block.as_bytes()).context("writing the log")?;
        bytes += block.len() as u64;
        let elapsed = start.elapsed();
        if elapsed >= WINDOW {
            let rate = u128::from(bytes) * 1000 / elapsed.as_millis().max(1);
            fs::write(format!("{FOLDER}/{RATE}"), rate.to_string()).context("writing the rate")?;
            notify(b"WATCHDOG=1")?;
            (start, bytes) = (Instant::now(), 0);
        }
    }
}

/// Bytes per second over the last whole window.
fn rate() -> Result<u64> {
    let text = fs::read_to_string(format!("{ROOT}{FOLDER}/{RATE}")).context("nobody floods")?;
    text.trim().parse().context("not a rate")
}

/// Keeps the rate of now.
pub(super) fn mark() -> Result<String> {
    let rate = rate()?;
    *MARK.lock().unwrap_or_else(PoisonError::into_inner) = Some(rate);
    Ok(format!("marked {rate} bytes per second\n"))
}

/// The rate of now in percent of the one that was kept.
pub(super) fn compare() -> Result<String> {
    let (rate, mark) = (rate()?, *MARK.lock().unwrap_or_else(PoisonError::into_inner));
    let mark = mark.context("no rate was marked")?;
    ensure!(mark > 0, "the marked rate is nothing");
    Ok(format!("percent {}\nbytes-per-second {rate}\n", rate * 100 / mark))
}

/// Lines of a service's log files that tell of dropped bytes.
pub(super) fn dropped(name: &str) -> Result<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("{ROOT}/var/log")).context("reading /var/log")?.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(&format!("{name}.log")) {
            continue;
        }
        let bytes = fs::read(entry.path()).context("reading a log")?;
        let text = String::from_utf8_lossy(&bytes);
        found.extend(text.lines().filter(|line| line.contains("dropped")).map(str::to_owned));
    }
    Ok(format!("{} lines tell of dropped bytes\n{}\n", found.len(), found.join("\n")))
}
