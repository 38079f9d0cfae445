//! Keeps the reason of a shutdown for the next boot.
//!
//! With a data partition the reason is a file, written when the shutdown begins and again before
//! `/var` is unmounted; the next boot marks it as read. Without a data partition it is an EFI
//! variable of Kiln's vendor, written at the end of a shutdown and deleted at the next boot: two
//! changes of NVRAM per reboot and none for a crash. Helpers do all of this, because disks and
//! firmware can hang.

use std::fmt;
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
use crate::storage::var::{self, Var};

/// The folder in `/var`, and the file on the data partition.
const FOLDER: &str = "lib/kiln";
const FILE: &str = "last-shutdown";

/// The name of the EFI variable of Kiln's vendor.
const VARIABLE: &str = "KilnLastShutdown";

/// The largest record in bytes: [`TEXT_MAX`] and its keys.
const RECORD_BYTES_MAX: u64 = 1024;

/// The longest text in bytes. NVRAM is small, and a console line is not longer either.
const TEXT_MAX: usize = 400;

/// The way in which a boot ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The node was running, and no shutdown had begun.
    Running,
    /// A shutdown had begun.
    Begun,
    /// A shutdown reached its last stage.
    Ordered,
    /// The deadline of a shutdown forced the end.
    Forced,
    /// PID 1 panicked.
    Bug,
    /// The boot failed.
    Fatal,
}

/// All ends with their words in the record.
const ENDS: [(End, &str); 6] = [
    (End::Running, "running"),
    (End::Begun, "begun"),
    (End::Ordered, "ordered"),
    (End::Forced, "forced"),
    (End::Bug, "bug"),
    (End::Fatal, "fatal"),
];

/// The record of a boot's end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The way in which it ended.
    pub end: End,
    /// `power-off`, `reboot` or `halt`, or empty for a node that was running.
    pub power: String,
    /// The requester or the failure, for people.
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

/// Returns the record as lines `KEY=VALUE`, as in os-release(5) but without quotes.
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

/// Parses a record. Returns `None` for anything else.
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

/// The places for the record, as the helpers' first argument.
const PARTITION: &str = "partition";
const EFI: &str = "efi";
const NOWHERE: &str = "nowhere";

static STORE: OnceLock<&'static str> = OnceLock::new();

/// The requested power state and the requester. The first request wins, as for the shutdown itself.
static ASKED: Mutex<Option<(Power, String)>> = Mutex::new(None);

/// Decides the place of this boot's record. `nvram` allows EFI variables.
pub fn settle(var: Var, nvram: bool) {
    let store = match var {
        Var::Partition => PARTITION,
        Var::Memory if nvram && efivar::offered() => EFI,
        Var::Memory => NOWHERE,
    };
    let _ = STORE.set(store);
}

/// Remembers the requester of a shutdown. Nothing is written yet.
pub fn ask(power: Power, who: &str) {
    let mut asked = ASKED.lock().unwrap_or_else(PoisonError::into_inner);
    asked.get_or_insert_with(|| (power, who.into()));
}

/// Returns the place of the record in this boot.
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

/// Starts the helper that writes the record and, at the end of a shutdown, sets the machine's
/// clock.
pub fn keep(end: End) -> Result<Child> {
    let text = encode(&reason(end));
    Helper::KeepReason.start(&[store(), &text]).map(|(child, _)| child)
}

/// Writes the record at the beginning of a shutdown, if that costs no NVRAM. PID 1 does not wait
/// for the helper.
pub fn keep_begun() {
    if store() == PARTITION {
        let _ = kmsg::warn_on_error(keep(End::Begun));
    }
}

/// Runs the helper `kiln-keep-reason`: `args` are the place and the record.
#[must_use]
pub fn run_keeper(args: &[String]) -> i32 {
    kmsg::open();
    let [store, text] = args else { return 2 };
    let Some(reason) = decode(text) else { return 2 };
    let kept = match store.as_str() {
        PARTITION => write_file(text),
        // NVRAM is written once per reboot, with the record of the end.
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
    let written = var::open()
        .and_then(|var| var.make(FOLDER))
        .and_then(|folder| folder.replace(FILE, text.as_bytes(), 0o644, Durability::FileAndFolder));
    written.with_context(|| format!("cannot write {FILE} on the data partition"))
}

/// Runs the helper `kiln-last-boot` at boot: reports how the last boot ended and marks the record
/// as read.
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

/// Reads and replaces the file, so that the next boot can tell a crash from a shutdown. At the
/// first boot there is no file.
fn from_partition() -> Result<Option<Reason>> {
    let read = var::open().and_then(|var| var.folder(FOLDER)?.read(FILE, RECORD_BYTES_MAX));
    let found = read.ok().and_then(|bytes| decode(&String::from_utf8_lossy(&bytes)));
    let running = Reason { end: End::Running, power: String::new(), text: String::new() };
    write_file(&encode(&running))?;
    Ok(found)
}

/// Reads and deletes the variable. Without one, the last boot crashed or this is the first
/// one.
fn from_efi() -> Result<Option<Reason>> {
    let found = efivar::take(VARIABLE)?;
    Ok(found.and_then(|bytes| decode(&String::from_utf8_lossy(&bytes))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ENDS, End, Reason, TEXT_MAX, decode, encode};

    #[test]
    fn a_record_is_read_as_it_was_written() {
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
    fn anything_else_is_not_a_record() {
        for text in ["", "END=ordered", "END=other\nPOWER=\nTEXT=\n", "\u{fffd}"] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn only_text_with_control_characters_or_too_long_is_changed(kept in ".{0,500}") {
            let reason = Reason { end: End::Forced, power: "halt".into(), text: kept.clone() };
            let found = decode(&encode(&reason)).unwrap();
            prop_assert!(found.text.len() <= TEXT_MAX);
            if kept.len() <= TEXT_MAX && !kept.contains(char::is_control) {
                prop_assert_eq!(found, reason);
            }
        }

        #[test]
        fn a_record_that_was_read_is_written_the_same(text in "END=(running|bug|x)\nPOWER=[a-z]{0,5}\nTEXT=[ -~]{0,50}\n") {
            let written = decode(&text).map(|reason| encode(&reason));
            prop_assert!(written.is_none_or(|written| written == text));
        }
    }
}
