//! Messages that are logged once per boot. They are remembered in a file below `/run`, because
//! short-lived processes log them.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};

use kiln_contract::path::REPORTED;
use rustix::fs::{FlockOperation, flock};

use crate::console::kmsg;

/// The number of messages per boot. One more line announces that others are left out.
const LINES_MAX: usize = 64;

/// The longest message that is remembered, in characters.
const LINE_MAX: usize = 512;

/// Logs a message, unless it was logged before in this boot.
pub fn say(line: &str) {
    let line: String = line.chars().filter(|c| !c.is_control()).take(LINE_MAX).collect();
    match remember(&line) {
        Some(said) if decide(&said, &line) == Verdict::Known => {}
        Some(said) if decide(&said, &line) == Verdict::Full => {
            kmsg::notice("further messages of this kind are left out until the next boot");
        }
        Some(_) | None => kmsg::notice(line),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    New,
    Known,
    /// The first message above the limit.
    Full,
}

fn decide(said: &str, line: &str) -> Verdict {
    let count = said.lines().count();
    if said.lines().any(|old| old == line) || count > LINES_MAX {
        Verdict::Known
    } else if count == LINES_MAX {
        Verdict::Full
    } else {
        Verdict::New
    }
}

/// Adds a message to the file. Returns the file's content before that, or `None` if it cannot be
/// read or written.
fn remember(line: &str) -> Option<String> {
    let mut file = open()?;
    flock(&file, FlockOperation::LockExclusive).ok()?;
    let mut said = String::new();
    file.read_to_string(&mut said).ok()?;
    if decide(&said, line) != Verdict::Known {
        file.write_all(format!("{line}\n").as_bytes()).ok()?;
    }
    Some(said)
}

fn open() -> Option<File> {
    OpenOptions::new().create(true).read(true).append(true).open(REPORTED).ok()
}

#[cfg(test)]
mod tests {
    use super::{LINES_MAX, Verdict, decide};

    #[test]
    fn a_message_is_new_once() {
        assert_eq!(decide("a\nb\n", "c"), Verdict::New);
        assert_eq!(decide("a\nb\n", "b"), Verdict::Known);
    }

    #[test]
    fn a_flood_ends_with_one_line_about_it() {
        let mut said: String = (0..LINES_MAX).flat_map(|i| [i.to_string(), "\n".into()]).collect();
        assert_eq!(decide(&said, "new"), Verdict::Full);
        said += "new\n";
        assert_eq!(decide(&said, "newer"), Verdict::Known);
    }
}
