//! The lines that PID 1 writes to the kernel log and the builder reads from the serial console.
//!
//! A line is `kiln: ` and one [`Event`]. The kernel puts its time stamp in front, and the builder
//! draws the boot's timeline from these stamps.

use std::fmt;

/// The beginning of every line of PID 1.
pub const TAG: &str = "kiln: ";

/// A line that programs may rely on. All other lines after [`TAG`] are for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A boot stage has succeeded.
    Stage {
        /// The stage's name, one lower-case word.
        name: String,
        /// Its duration in milliseconds.
        millis: u64,
    },
    /// A service was started, or started again if `attempt` is above 1.
    Started {
        /// The service's name.
        service: String,
        /// Counts from 1.
        attempt: u32,
    },
    /// A service has sent `READY=1`.
    Ready {
        /// The service's name.
        service: String,
    },
    /// A service does not answer and is killed, so that it can be started again.
    Hung {
        /// The service's name.
        service: String,
    },
    /// A service failed so often that it is now retried at the longest pause, forever.
    Failing {
        /// The service's name.
        service: String,
        /// The pause in seconds.
        pause: u64,
    },
    /// kubelet does not start a pod. It tries again, but each reason is reported once per boot.
    NotStarted {
        /// `NAMESPACE/NAME`, or the path of an invalid manifest.
        pod: String,
        /// kubelet's reason, one line of any text.
        reason: String,
    },
    /// The shutdown has reached its last stage; `reboot(2)` follows.
    Down {
        /// `power-off`, `reboot` or `halt`.
        action: String,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage { name, millis } => write!(f, "stage {name} took {millis} ms"),
            Self::Started { service, attempt } => write!(f, "{service} started, attempt {attempt}"),
            Self::Ready { service } => write!(f, "{service} is ready"),
            Self::Hung { service } => write!(f, "{service} hangs, killing it"),
            Self::Failing { service, pause } => {
                write!(f, "{service} keeps failing, retrying every {pause} s")
            }
            Self::NotStarted { pod, reason } => write!(f, "pod {pod} does not start: {reason}"),
            Self::Down { action } => write!(f, "all stopped and synced, now {action}"),
        }
    }
}

impl Event {
    /// Parses the text after [`TAG`]. Returns `None` for a line that is meant for people.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some((pod, reason)) =
            text.strip_prefix("pod ").and_then(|rest| rest.split_once(" does not start: "))
        {
            return Some(Self::NotStarted { pod: pod.into(), reason: reason.into() });
        }
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        match words[..] {
            ["stage", name, "took", millis, "ms"] => {
                Some(Self::Stage { name: name.into(), millis: millis.parse().ok()? })
            }
            [service, "started,", "attempt", attempt] => {
                Some(Self::Started { service: service.into(), attempt: attempt.parse().ok()? })
            }
            [service, "is", "ready"] => Some(Self::Ready { service: service.into() }),
            [service, "hangs,", "killing", "it"] => Some(Self::Hung { service: service.into() }),
            [service, "keeps", "failing,", "retrying", "every", pause, "s"] => {
                Some(Self::Failing { service: service.into(), pause: pause.parse().ok()? })
            }
            ["all", "stopped", "and", "synced,", "now", action] => {
                Some(Self::Down { action: action.into() })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Event;

    #[test]
    fn every_written_event_is_read_again() {
        for event in [
            Event::Stage { name: "mounts".into(), millis: 12 },
            Event::Started { service: "containerd".into(), attempt: 3 },
            Event::Ready { service: "kubelet".into() },
            Event::Hung { service: "containerd".into() },
            Event::Failing { service: "kubelet".into(), pause: 30 },
            Event::NotStarted { pod: "a/b".into(), reason: "no  image: x".into() },
            Event::Down { action: "power-off".into() },
        ] {
            assert_eq!(Event::parse(&event.to_string()), Some(event));
        }
    }

    #[test]
    fn a_line_for_people_is_not_an_event() {
        assert_eq!(Event::parse("node kiln-1 is running"), None);
        assert_eq!(Event::parse("stage mounts took long"), None);
        assert_eq!(Event::parse(""), None);
    }
}
