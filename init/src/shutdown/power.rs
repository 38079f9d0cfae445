//! The ways to take a machine down, and the kernel interfaces for them.

use std::fmt;
use std::fs;

use rustix::system::RebootCommand;

/// The state in which a shutdown leaves the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Power {
    /// Powered off.
    Off,
    /// Started again through the firmware.
    Reboot,
    /// On, with stopped processors.
    Halt,
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "power-off",
            Self::Reboot => "reboot",
            Self::Halt => "halt",
        })
    }
}

/// The longest reason of a request, in characters.
const WHY_MAX: usize = 160;

/// Parses a request from the FIFO: a word, then an optional reason.
#[must_use]
pub fn parse_request(line: &str) -> Option<(Power, String)> {
    let line = line.trim();
    let (word, why) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let power = match word {
        "poweroff" => Power::Off,
        "reboot" => Power::Reboot,
        "halt" => Power::Halt,
        _ => return None,
    };
    Some((power, why.trim().chars().filter(|c| !c.is_control()).take(WHY_MAX).collect()))
}

/// Returns sysrq's letter for an end that involves no driver.
pub(super) const fn sysrq_letter(power: Power) -> &'static str {
    match power {
        Power::Off => "o",
        Power::Reboot | Power::Halt => "b",
    }
}

pub(super) fn sysrq(letter: &str) {
    let _ = fs::write("/proc/sysrq-trigger", letter);
}

pub(super) const fn command(power: Power) -> RebootCommand {
    match power {
        Power::Off => RebootCommand::PowerOff,
        Power::Reboot => RebootCommand::Restart,
        Power::Halt => RebootCommand::Halt,
    }
}

#[cfg(test)]
mod tests {
    use super::{Power, WHY_MAX, parse_request};

    #[test]
    fn only_whole_words_are_requests() {
        let power = |line| parse_request(line).map(|(power, _)| power);
        assert_eq!(power("poweroff\n"), Some(Power::Off));
        assert_eq!(power("reboot"), Some(Power::Reboot));
        assert_eq!(power("halt\n"), Some(Power::Halt));
        assert_eq!(power("power off"), None);
        assert_eq!(power(""), None);
    }

    #[test]
    fn the_rest_of_the_line_is_the_reason_and_is_bounded() {
        let why = |line: &str| parse_request(line).unwrap().1;
        assert_eq!(why("reboot  update to 1.2\n"), "update to 1.2");
        assert_eq!(why("reboot"), "");
        assert_eq!(why(&format!("halt {}", "ä".repeat(1000))).chars().count(), WHY_MAX);
    }
}
