//! Writes lines to the kernel log, which the kernel copies to every console.
//!
//! `/dev/kmsg` never blocks on a slow reader, exists before any file system is mounted, and stamps
//! each line with the time since the kernel's start (Documentation/ABI/testing/dev-kmsg). A missing
//! or failing kernel log is not an error, because there is no other place to report it.

use std::fmt::Display;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use anyhow::Result;
use kiln_contract::console::{Event, TAG};
use rustix::fs::{Mode, OFlags};

/// The kernel cuts a record at about 1000 bytes (`PRINTKRB_RECORD_MAX` less its prefix).
const LINE_MAX: usize = 960;

static LOG: OnceLock<OwnedFd> = OnceLock::new();

/// Opens the kernel log and turns off its rate limit for user space.
///
/// The kernel's default for `printk_devkmsg` is `ratelimit`: ten lines in five seconds.
pub fn open() {
    let _ = std::fs::write("/proc/sys/kernel/printk_devkmsg", "on\n");
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    if let Ok(fd) = rustix::fs::open("/dev/kmsg", flags, Mode::empty()) {
        let _ = LOG.set(fd);
    }
}

/// Writes a line that programs may rely on.
pub fn event(event: &Event) {
    write(5, event);
}

/// Reports a change of state.
pub fn notice(text: impl Display) {
    write(5, text);
}

/// Reports a failure that the boot survives.
pub fn warn(text: impl Display) {
    write(4, text);
}

/// Reports a failure that stops the boot, or a shutdown without a request.
pub fn error(text: impl Display) {
    write(3, text);
}

/// Reports a failure that is not fatal, with its causes, and returns `None`.
pub fn warn_on_error<T>(result: Result<T>) -> Option<T> {
    result.inspect_err(|error| warn(format_args!("{error:#}"))).ok()
}

/// Writes one record. `level` is syslog's severity (3 error, 4 warning, 5 notice).
fn write(level: u8, text: impl Display) {
    let record = record(level, &text.to_string());
    let _ = match LOG.get() {
        Some(log) => rustix::io::write(log, record.as_bytes()),
        None => rustix::io::write(rustix::stdio::stderr(), record.as_bytes()),
    };
}

/// Returns a record of the kernel log: facility 1 (user), one line, cut at [`LINE_MAX`] bytes.
fn record(level: u8, text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut end = line.len().min(LINE_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    format!("<{}>{TAG}{}\n", 8 | level, &line[..end])
}

#[cfg(test)]
mod tests {
    use super::{LINE_MAX, record};

    #[test]
    fn a_record_is_one_line_with_a_severity() {
        assert_eq!(record(5, "two\nlines"), "<13>kiln: two lines\n");
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let text = record(4, &"ä".repeat(LINE_MAX));
        assert!(text.len() <= LINE_MAX + 12 && text.ends_with("ä\n"));
    }
}
