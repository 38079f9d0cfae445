//! `journalctl` (journalctl(1)), as far as kubelet's `NodeLogQuery` and an administrator need it.
//!
//! It reads the files that [`crate::log`] writes. Its units are containerd, kubelet, `kernel`, and
//! `init` for PID 1. It differs from systemd's journalctl in three ways: `--grep` is not PCRE2
//! ([`pattern`]), times are always in UTC, and lines come in the order of time even with `--grep`
//! and `--lines` together.
//!
//! Memory is bounded: files are read piece by piece, and `--lines` keeps the positions of the lines
//! and not their text.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use kiln_base::calendar::Civil;

use crate::kernel::beneath::Folder;
use crate::log::file;
use crate::log::stream::{FOLDER, STREAMS, boot_id};
use arguments::{Boot, Output, Query, Request};
use entries::{Entries, Entry};
use pattern::Pattern;

pub mod arguments;
pub mod entries;
pub mod pattern;

#[cfg(test)]
mod tests;

/// The time limit of a run. kubelet kills journalctl after 30 s without a message, so it stops
/// earlier and reports that lines are missing.
const DEADLINE: Duration = Duration::from_secs(25);

/// The number of lines between two checks of the clock.
const LOOK: u64 = 512;

/// The inputs of a run other than its arguments.
struct World<'a> {
    folder: &'a Path,
    hostname: &'a str,
    /// The id of this boot.
    boot: &'a str,
    is_late: &'a dyn Fn() -> bool,
}

/// Runs the applet.
#[must_use]
pub fn run(args: &[String]) -> i32 {
    let begin = Instant::now();
    let name = rustix::system::uname();
    let world = World {
        folder: Path::new(FOLDER),
        hostname: &name.nodename().to_string_lossy(),
        boot: &boot_id(),
        is_late: &|| begin.elapsed() >= DEADLINE,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let done = execute(args, &world, &mut out)
        .and_then(|()| out.flush().map_err(|error| format!("write: {error}")));
    match done {
        Ok(()) => 0,
        Err(error) => {
            let _ = out.flush();
            eprintln!("journalctl: {error}");
            1
        }
    }
}

/// Runs a command line. The error is a sentence for the user; the output before it is valid.
fn execute(args: &[String], world: &World<'_>, out: &mut impl Write) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {error}", world.folder.display());
    match arguments::parse(args)? {
        Request::Units => {
            STREAMS.iter().try_for_each(|unit| writeln!(out, "{unit}.service")).map_err(failed)
        }
        Request::Boots => list_boots(world, out).map_err(failed),
        Request::Show(query) => {
            let boots = boots(world);
            let filter = Filter::new(&query, &boots)?;
            if show(&query, &filter, &boots, world, out).map_err(failed)? {
                return Ok(());
            }
            Err(format!("stopped after {} s; the rest was not read", DEADLINE.as_secs()))
        }
    }
}

/// Returns all known boots, the oldest first and this one last.
fn boots(world: &World<'_>) -> Vec<String> {
    let folder = Folder::open(world.folder);
    let mut boots = folder.map(|folder| file::boots(&folder)).unwrap_or_default();
    if boots.last().is_none_or(|last| last != world.boot) {
        boots.push(world.boot.to_owned());
    }
    boots
}

fn list_boots(world: &World<'_>, out: &mut impl Write) -> io::Result<()> {
    let boots = boots(world);
    for (before, boot) in (0..boots.len()).rev().zip(&boots) {
        let sign = if before == 0 { "" } else { "-" };
        writeln!(out, "{sign}{before} {}", boot.replace('-', ""))?;
    }
    Ok(())
}

/// The choice of entries.
struct Filter {
    since: i64,
    until: i64,
    /// The position in the list of boots, counted from 1.
    boot: Option<u32>,
    pattern: Option<Pattern>,
}

impl Filter {
    fn new(query: &Query, boots: &[String]) -> Result<Self, String> {
        Ok(Self {
            since: query.since.unwrap_or(i64::MIN),
            until: query.until.unwrap_or(i64::MAX),
            boot: query.boot.as_ref().map(|boot| find_boot(boot, boots)).transpose()?,
            pattern: query.pattern.as_deref().map(Pattern::new).transpose()?,
        })
    }

    fn takes(&self, entry: &Entry<'_>) -> bool {
        (self.since..=self.until).contains(&entry.stamp.real)
            && self.boot.is_none_or(|boot| boot == entry.place.boot)
            && self.pattern.as_ref().is_none_or(|pattern| pattern.matches(entry.text))
    }
}

/// Returns a boot's position in the list, counted from 1.
fn find_boot(boot: &Boot, boots: &[String]) -> Result<u32, String> {
    let count = i64::try_from(boots.len()).unwrap_or(i64::MAX);
    let (place, name) = match boot {
        Boot::Offset(offset) if *offset <= 0 => (count + i64::from(*offset), offset.to_string()),
        Boot::Offset(offset) => (i64::from(*offset), offset.to_string()),
        Boot::Id(id) => {
            let found = boots.iter().position(|boot| boot.replace('-', "") == *id);
            (found.map_or(0, |at| i64::try_from(at + 1).unwrap_or(0)), id.clone())
        }
    };
    let known = (1..=count).contains(&place);
    let place = u32::try_from(place).ok().filter(|_| known);
    place.ok_or_else(|| format!("no entry found for boot {name}"))
}

/// Opens the requested units that exist. An unknown unit has no lines, as in journalctl.
fn open(query: &Query, world: &World<'_>) -> io::Result<Entries> {
    let wanted =
        |unit: &&str| query.units.is_empty() || query.units.iter().any(|name| name == unit);
    Entries::open(&Folder::open(world.folder)?, STREAMS.into_iter().filter(wanted))
}

/// Shows entries. Returns false if time runs out before the end. For the last lines, all lines are
/// read once and the positions of the last ones are kept; then those are read again.
fn show(
    query: &Query,
    filter: &Filter,
    boots: &[String],
    world: &World<'_>,
    out: &mut impl Write,
) -> io::Result<bool> {
    let mut entries = open(query, world)?;
    let mut printer = Printer::new(query, boots, world.hostname);
    let complete = match query.lines {
        None => visit(&mut entries, filter, boots, world, |entry| printer.print(entry, out))?,
        Some(lines) => {
            let mut last = VecDeque::new();
            let complete = visit(&mut entries, filter, boots, world, |entry| {
                last.push_back(entry.place);
                if last.len() > lines {
                    last.pop_front();
                }
                Ok(())
            })?;
            for place in last {
                if let Some(entry) = entries.again(place)? {
                    printer.print(&entry, out)?;
                }
            }
            complete
        }
    };
    if complete {
        printer.finish(out)?;
    }
    Ok(complete)
}

/// Visits every entry that passes the filter. Returns false if time runs out before the end.
fn visit(
    entries: &mut Entries,
    filter: &Filter,
    boots: &[String],
    world: &World<'_>,
    mut take: impl FnMut(&Entry<'_>) -> io::Result<()>,
) -> io::Result<bool> {
    let mut read: u64 = 0;
    while let Some(entry) = entries.next(boots)? {
        if filter.takes(&entry) {
            take(&entry)?;
        }
        read += 1;
        if read.is_multiple_of(LOOK) && (world.is_late)() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The writer of entries in journalctl's form.
struct Printer<'a> {
    output: Output,
    quiet: bool,
    boots: &'a [String],
    hostname: &'a str,
    /// The boot of the last entry.
    boot: Option<u32>,
    line: String,
}

impl<'a> Printer<'a> {
    const fn new(query: &Query, boots: &'a [String], hostname: &'a str) -> Self {
        let (output, quiet) = (query.output, query.quiet);
        Self { output, quiet, boots, hostname, boot: None, line: String::new() }
    }

    fn print(&mut self, entry: &Entry<'_>, out: &mut impl Write) -> io::Result<()> {
        let boot = entry.place.boot;
        if self.boot.replace(boot).is_some_and(|last| last != boot) && !self.quiet {
            let known = (boot as usize).checked_sub(1).and_then(|at| self.boots.get(at));
            let id = known.map_or_else(|| "unknown".to_owned(), |id| id.replace('-', ""));
            writeln!(out, "-- Boot {id} --")?;
        }
        self.line.clear();
        self.write_time(entry);
        out.write_all(self.line.as_bytes())?;
        if self.output != Output::Cat {
            out.write_all(entry.source)?;
            out.write_all(b": ")?;
        }
        out.write_all(entry.text)?;
        out.write_all(b"\n")
    }

    /// Writes `Nov 21 14:43:00.123456 HOST `, in UTC.
    fn write_time(&mut self, entry: &Entry<'_>) {
        let Civil { month, day, hour, minute, second, micros, .. } =
            Civil::from_micros(entry.stamp.real);
        let month = usize::try_from(month - 1).ok().and_then(|month| MONTHS.get(month));
        let month = month.unwrap_or(&"???");
        // Writing to a String cannot fail.
        let _ = match self.output {
            Output::Cat => Ok(()),
            Output::Short => write!(
                self.line,
                "{month} {day:02} {hour:02}:{minute:02}:{second:02} {} ",
                self.hostname
            ),
            Output::ShortPrecise => write!(
                self.line,
                "{month} {day:02} {hour:02}:{minute:02}:{second:02}.{micros:06} {} ",
                self.hostname
            ),
        };
    }

    fn finish(&self, out: &mut impl Write) -> io::Result<()> {
        if self.boot.is_none() && !self.quiet {
            writeln!(out, "-- No entries --")?;
        }
        Ok(())
    }
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
