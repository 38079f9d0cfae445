//! A service that writes its log faster than any disk takes it, and the rate at which it can write.

use std::fs;
use std::io::Write;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::service::{FOLDER, notify};
use crate::node::ROOT;

/// The file for the flood's rate in the last window.
const RATE: &str = "rate";

/// The time over which a rate is measured.
const WINDOW: Duration = Duration::from_secs(3);

/// The rate for later comparisons.
static MARK: Mutex<Option<u64>> = Mutex::new(None);

/// Writes forever and feeds the watchdog.
pub(super) fn write() -> Result<()> {
    let block = format!("{}\n", "flood ".repeat(20)).repeat(512);
    let mut out = std::io::stdout().lock();
    notify(b"READY=1")?;
    let (mut start, mut bytes) = (Instant::now(), 0_u64);
    loop {
        out.write_all(block.as_bytes()).context("cannot write the log")?;
        bytes += block.len() as u64;
        let elapsed = start.elapsed();
        if elapsed >= WINDOW {
            let rate = u128::from(bytes) * 1000 / elapsed.as_millis().max(1);
            fs::write(format!("{FOLDER}/{RATE}"), rate.to_string())
                .context("cannot write the rate")?;
            notify(b"WATCHDOG=1")?;
            (start, bytes) = (Instant::now(), 0);
        }
    }
}

/// Returns the bytes per second in the last complete window.
fn rate() -> Result<u64> {
    let text = fs::read_to_string(format!("{ROOT}{FOLDER}/{RATE}"))
        .context("cannot read the rate: there is no flood")?;
    text.trim().parse().context("the rate is not a number")
}

/// Records the current rate.
pub(super) fn mark() -> Result<String> {
    let rate = rate()?;
    *MARK.lock().unwrap_or_else(PoisonError::into_inner) = Some(rate);
    Ok(format!("marked {rate} bytes per second\n"))
}

/// Returns the current rate in percent of the recorded one.
pub(super) fn compare() -> Result<String> {
    let (rate, mark) = (rate()?, *MARK.lock().unwrap_or_else(PoisonError::into_inner));
    let mark = mark.context("no rate was marked")?;
    ensure!(mark > 0, "the marked rate is zero");
    Ok(format!("percent {}\nbytes-per-second {rate}\n", rate * 100 / mark))
}

/// Returns the lines of a service's log files that report dropped bytes.
pub(super) fn dropped(name: &str) -> Result<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("{ROOT}/var/log")).context("cannot read /var/log")?.flatten()
    {
        if !entry.file_name().to_string_lossy().starts_with(&format!("{name}.log")) {
            continue;
        }
        let bytes = fs::read(entry.path()).context("cannot read a log")?;
        let text = String::from_utf8_lossy(&bytes);
        found.extend(text.lines().filter(|line| line.contains("dropped")).map(str::to_owned));
    }
    Ok(format!("{} lines report dropped bytes\n{}\n", found.len(), found.join("\n")))
}
