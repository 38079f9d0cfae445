//! Why the node went down, written where the next boot finds it.
//!
//! On a data partition it is a file, written when the shutdown begins and again before `/var` is
//! unmounted, and marked as consumed by the next boot. Without one it is an EFI variable of Kiln's
//! own vendor: one write at the end of a shutdown and one deletion at the next boot, so two changes
//! of NVRAM per reboot, and none by a crash. All of it happens in helpers: disks and firmware hang.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result};
use kiln_base::replace::{self, Durability};
use kiln_contract::path;

use crate::console::kmsg;
use crate::machine::{efivar, rtc};
use crate::process::helper::Helper;
use crate::process::spawn::Child;
use crate::shutdown::power::Power;
use crate::storage::var::Var;

/// The file on the data partition; renamed into place, so that a power cut leaves a whole one.
const FILE: &str = "/var/lib/kiln/last-shutdown";

/// The EFI variable's name, for Kiln's vendor.
const VARIABLE: &str = "KilnLastShutdown";

/// Longest text that is kept, in bytes: NVRAM is small, and a console line is not longer.
const TEXT_MAX: usize = 400;

/// How a boot ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was up, or the shutdown had not begun.
    Running,
    /// A shutdown had begun.
    Begun,
    /// A shutdown came to its last step.
    Ordered,
    /// A shutdown's absolute deadline ended it.
    Forced,
    /// PID 1 panicked.
    Bug,
    /// The boot failed.
    Fatal,
}

/// All ends, with the words that are kept.
const ENDS: [(End, &str); 6] = [
    (End::Running, "running"),
    (End::Begun, "begun"),
    (End::Ordered, "ordered"),
    (End::Forced, "forced"),
    (End::Bug, "bug"),
    (End::Fatal, "fatal"),
];

/// What is kept of a boot's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// How it ended.
    pub end: End,
    /// What for: `power-off`, `reboot`, `halt`; empty for a node that was up.
    pub power: String,
    /// Who asked or what failed, for people.
    pub text: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { end, power, text } = self;
        match end {
            End::Running => f.write_str("without a shutdown: power cut, reset or kernel panic"),
            End::Begun => write!(f, "in the middle of a shutdown for {power}: {text}"),
            End::Ordered => write!(f, "in order, for {power}: {text}"),
            End::Forced => write!(f, "forced at its deadline, for {power}: {text}"),
            End::Bug => write!(f, "by a bug in PID 1: {text}"),
            End::Fatal => write!(f, "by a failed boot: {text}"),
        }
    }
}

/// The kept form: lines `KEY=VALUE`, as in os-release(5) but without quotes.
#[must_use]
pub fn encode(reason: &Reason) -> String {
    let end = ENDS.iter().find(|(end, _)| *end == reason.end).map_or("", |(_, word)| word);
    let text: String = reason.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut cut = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("END={end}\nPOWER={}\nTEXT={}\n", reason.power, &text[..cut])
}

/// Reads the kept form; `None` for anything else.
#[must_use]
pub fn decode(text: &str) -> Option<Reason> {
    let value = |key: &str| {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        lines.filter(|(name, _)| *name == key).map(|(_, value)| value.to_owned()).next()
    };
    let word = value("END")?;
    let (end, _) = ENDS.into_iter().find(|(_, known)| *known == word)?;
    Some(Reason { end, power: value("POWER")?, text: value("TEXT")? })
}

/// Where reasons are kept, as the helpers' first argument.
const PARTITION: &str = "partition";
const EFI: &str = "efi";
const NOWHERE: &str = "nowhere";

static STORE: OnceLock<&'static str> = OnceLock::new();

/// What for and who asked; the first one counts, as for the shutdown itself.
static ASKED: Mutex<Option<(Power, String)>> = Mutex::new(None);

/// Decides where this boot's reason will be kept. `nvram` allows EFI variables.
pub fn settle(var: Var, nvram: bool) {
    let store = match var {
        Var::Partition => PARTITION,
        Var::Memory if nvram && efivar::offered() => EFI,
        Var::Memory => NOWHERE,
    };
    let _ = STORE.set(store);
}

/// Notes who asked for a shutdown. Nothing is written yet.
pub fn ask(power: Power, who: &str) {
    let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    asked.get_or_insert_with(|| (power, who.into()));
}

/// Where reasons are kept in this boot.
#[must_use]
pub fn store() -> &'static str {
    STORE.get().copied().unwrap_or(NOWHERE)
}

fn reason(end: End) -> Reason {
    let asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let (power, text) =
        asked.map_or_else(Default::default, |(power, who)| (power.to_string(), who));
    Reason { end, power, text }
}

/// Starts a helper that keeps the reason, and at a shutdown's end sets the machine's clock.
pub fn keep(end: End) -> Result<Child> {
    let text = encode(&reason(end));
    Helper::KeepReason.start(&[store(), &text]).map(|(child, _)| child)
}

/// The same at a shutdown's begin, where it costs no NVRAM. Nobody waits for it.
pub fn keep_begun() {
    if store() == PARTITION {
        let _ = kmsg::warn_on_error(keep(End::Begun));
    }
}

/// The helper: which store, and what to keep there.
#[must_use]
pub fn run_keeper(args: &[String]) -> i32 {
    kmsg::open();
    let [store, text] = args else { return 2 };
    let Some(reason) = decode(text) else { return 2 };
    let kept = match store.as_str() {
        PARTITION => write_file(text),
        // One write for each reboot: what is known at the end is enough.
        EFI if reason.end != End::Begun => efivar::write(VARIABLE, text.as_bytes()),
        _ => Ok(()),
    };
    let kept = kmsg::warn_on_error(kept.context("cannot keep the shutdown's reason"));
    if reason.end != End::Begun {
        rtc::set_from_system();
    }
    i32::from(kept.is_none())
}

fn write_file(text: &str) -> Result<()> {
    replace::write(Path::new(FILE), text.as_bytes(), 0o644, Durability::FileAndFolder)
        .with_context(|| format!("cannot write {FILE}"))
}

/// At boot, in a process of its own: tells how the last boot ended, and marks that as read.
#[must_use]
pub fn run(args: &[String]) -> i32 {
    kmsg::open();
    let found = match args.first().map(String::as_str) {
        Some(PARTITION) => from_partition(),
        Some(EFI) => from_efi(),
        _ => Ok(None),
    };
    let found = kmsg::warn_on_error(found.context("cannot read how the last boot ended")).flatten();
    let text = match &found {
        Some(reason) => {
            kmsg::notice(format_args!("the last boot ended {reason}"));
            encode(reason)
        }
        None => String::new(),
    };
    let file = Path::new(path::LAST_BOOT);
    let kept = replace::write(file, text.as_bytes(), 0o644, Durability::None);
    let kept = kept.with_context(|| format!("cannot write {}", path::LAST_BOOT));
    i32::from(kmsg::warn_on_error(kept).is_none())
}

/// No file is a first boot; what is there is replaced, so that a crash is told from a shutdown.
fn from_partition() -> Result<Option<Reason>> {
    let found = fs::read(FILE).ok().and_then(|bytes| decode(&String::from_utf8_lossy(&bytes)));
    let running = Reason { end: End::Running, power: String::new(), text: String::new() };
    write_file(&encode(&running))?;
    Ok(found)
}

/// No variable is a crash, or a first boot: nobody can tell.
fn from_efi() -> Result<Option<Reason>> {
    let found = efivar::take(VARIABLE)?;
    Ok(found.and_then(|bytes| decode(&String::from_utf8_lossy(&bytes))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ENDS, End, Reason, TEXT_MAX, decode, encode};

    #[test]
    fn what_is_kept_is_what_is_read() {
        for (end, _) in ENDS {
            let reason = Reason { end, power: "reboot".into(), text: "power button = x".into() };
            assert_eq!(decode(&encode(&reason)), Some(reason));
        }
    }

    #[test]
    fn a_text_cannot_add_lines_and_is_bounded() {
        let text = format!("a\nEND=ordered\n{}", "ä".repeat(1000));
        let kept = encode(&Reason { end: End::Bug, power: String::new(), text });
        assert_eq!(kept.lines().count(), 3);
        assert!(kept.len() < TEXT_MAX + 40 && decode(&kept).unwrap().end == End::Bug);
    }

    #[test]
    fn anything_else_is_no_reason() {
        for text in ["", "END=ordered", "END=other\nPOWER=\nTEXT=\n", "\u{fffd}"] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in ".{0,200}", kept in ".{0,50}") {
            let _ = decode(&text);
            let reason = Reason { end: End::Forced, power: "halt".into(), text: kept };
            prop_assert!(decode(&encode(&reason)).is_some());
        }
    }
}
