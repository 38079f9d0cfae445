//! Logging: one line per event on stderr, which containerd stores and `kubectl logs` shows.
//!
//! ```text
//! 2026-11-21T08:00:00.123Z  INFO got a lease address=10.0.2.15/24 seconds=86400
//! ```
//!
//! The subscriber replaces tracing-subscriber: it needs no registry, no thread-local span stack and no
//! regular expressions, and costs a pod a few kilobytes. Spans are accepted and ignored. Control
//! characters are escaped, so that text from outside cannot start a new line.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use kiln_base::calendar::{Civil, Precision};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Environment variable with the lowest level that is logged: `off`, `error`, `warn`, `info` (the
/// default), `debug` or `trace`.
pub const VARIABLE: &str = "KILN_LOG";

/// Libraries that log the errors that they also return. Their lines appear from the level debug on,
/// because the caller reports the error.
const LIBRARIES: [&str; 1] = ["kube"];

/// Starts logging to stderr. A second call changes nothing.
pub fn init() {
    let wanted = std::env::var(VARIABLE).ok();
    let level = wanted.as_deref().map(str::parse::<LevelFilter>);
    let known = level.as_ref().and_then(|level| level.as_ref().ok().copied());
    let subscriber = Stderr { level: known.unwrap_or(LevelFilter::INFO) };
    if tracing::subscriber::set_global_default(subscriber).is_ok() && matches!(level, Some(Err(_)))
    {
        let wanted = wanted.unwrap_or_default();
        tracing::warn!("{VARIABLE}={wanted:?} is not a level; using info");
    }
}

struct Stderr {
    level: LevelFilter,
}

impl Subscriber for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let is_library = LIBRARIES.iter().any(|name| metadata.target().starts_with(name));
        *metadata.level() <= self.level && (!is_library || self.level >= LevelFilter::DEBUG)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let line = line(Civil::now(), event);
        // An error of stderr cannot be reported anywhere.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Formats an event as one line, with its line feed.
fn line(now: Civil, event: &Event<'_>) -> String {
    let mut parts = Parts::default();
    event.record(&mut parts);
    let (now, level) = (now.rfc3339(Precision::Millis), event.metadata().level());
    format!("{now} {level:>5}{}{}\n", parts.message, parts.fields)
}

/// An event's message and its other fields, each preceded by a blank.
#[derive(Default)]
struct Parts {
    message: String,
    fields: String,
}

impl Parts {
    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        // Writing to a String cannot fail. If a value's own Display fails, its text is incomplete.
        let _ = match field.name() {
            "message" => write!(Escaped(&mut self.message), " {value}"),
            name => write!(Escaped(&mut self.fields), " {name}={value}"),
        };
    }
}

impl Visit for Parts {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.add(field, format_args!("{value}"));
    }
}

/// Writes text with control characters escaped as in Rust.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            if char.is_control() {
                self.0.extend(char.escape_default());
            } else {
                self.0.push(char);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{LevelFilter, Stderr, line};
    use kiln_base::calendar::Civil;
    use std::sync::{Arc, Mutex};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    /// Like [`Stderr`], but stores the lines.
    struct Kept(Stderr, Arc<Mutex<String>>);

    impl Subscriber for Kept {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            self.0.enabled(metadata)
        }
        fn event(&self, event: &Event<'_>) {
            self.1.lock().unwrap().push_str(&line(Civil::from_seconds(0), event));
        }
        fn new_span(&self, attributes: &Attributes<'_>) -> Id {
            self.0.new_span(attributes)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    fn check(log: impl FnOnce(), expected: &str) {
        let kept = Arc::new(Mutex::new(String::new()));
        let subscriber = Kept(Stderr { level: LevelFilter::INFO }, Arc::clone(&kept));
        tracing::subscriber::with_default(subscriber, log);
        assert_eq!(*kept.lock().unwrap(), expected);
    }

    #[test]
    fn an_event_is_one_line_that_ends_with_its_fields() {
        check(
            || tracing::info!(seconds = 3, server = %"10.0.2.2", "got a lease"),
            "1970-01-01T00:00:00.000Z  INFO got a lease seconds=3 server=10.0.2.2\n",
        );
    }

    #[test]
    fn text_from_outside_cannot_start_a_line() {
        check(
            || tracing::warn!(name = "a\nb", "\x1b[31m{}", "x\r\ny"),
            "1970-01-01T00:00:00.000Z  WARN \\u{1b}[31mx\\r\\ny name=\"a\\nb\"\n",
        );
    }

    #[test]
    fn an_event_below_the_level_is_not_logged() {
        check(|| tracing::debug!("packet"), "");
    }

    #[test]
    fn an_error_that_a_library_returns_is_not_logged_by_the_library_too() {
        check(|| tracing::error!(target: "kube_client::client", "failed"), "");
    }
}
