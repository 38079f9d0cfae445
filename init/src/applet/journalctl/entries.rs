//! The lines of several units' files as one stream in the order of time, read piece by piece.
//!
//! The order is by boot first and then by the monotonic clock. Each unit's two files are opened and
//! measured at the start, so lines that are written and files that are rotated in the meantime
//! change nothing.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;

use crate::kernel::beneath::Folder;
use crate::log::file::{current, previous};
use crate::log::line::{self, LINE_MAX, Line};
use crate::log::stamp::Stamp;

/// The number of bytes read from a file at once.
const BUFFER: usize = 64 * 1024;

/// A position from which a line can be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The index of the unit among the opened ones.
    unit: u16,
    /// The index of its file, the older one first.
    file: u16,
    /// The boot's position in the list of boots, counted from 1, or 0 for an unknown boot.
    pub boot: u32,
    offset: u64,
}

/// A line with everything that filters need.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The position.
    pub place: Place,
    /// The time.
    pub stamp: Stamp,
    /// The source.
    pub source: &'a [u8],
    /// The text.
    pub text: &'a [u8],
}

/// The files of some units.
pub struct Entries {
    units: Vec<Unit>,
    started: bool,
}

/// A file with its size when it was opened.
struct Source {
    file: BufReader<File>,
    size: u64,
    offset: u64,
}

struct Unit {
    sources: Vec<Source>,
    /// The index of the file that is read now.
    at: usize,
    boot: u32,
    /// The position and time of the next line, or `None` at the end.
    line: Vec<u8>,
    place: Option<(Place, Stamp)>,
}

impl Entries {
    /// Opens the files that exist. `boots` are the ids of boots, the oldest first.
    pub fn open<'a>(folder: &Folder, units: impl Iterator<Item = &'a str>) -> io::Result<Self> {
        let units = units.map(|unit| Unit::open(folder, unit)).collect::<io::Result<_>>()?;
        Ok(Self { units, started: false })
    }

    /// Returns the next line in the order of time.
    pub fn next(&mut self, boots: &[String]) -> io::Result<Option<Entry<'_>>> {
        if !self.started {
            for (index, unit) in self.units.iter_mut().enumerate() {
                unit.advance(index, boots)?;
            }
            self.started = true;
        } else if let Some(index) = self.first() {
            self.units[index].advance(index, boots)?;
        }
        Ok(self.first().and_then(|index| self.units[index].entry()))
    }

    /// Returns the unit with the earliest next line, the first of equal ones.
    fn first(&self) -> Option<usize> {
        let next = |(index, unit): (usize, &Unit)| {
            let (place, stamp) = unit.place?;
            Some((place.boot, stamp.monotonic, index))
        };
        self.units.iter().enumerate().filter_map(next).min().map(|(.., index)| index)
    }

    /// Reads a line again.
    pub fn again(&mut self, place: Place) -> io::Result<Option<Entry<'_>>> {
        let Some(unit) = self.units.get_mut(usize::from(place.unit)) else { return Ok(None) };
        let Some(source) = unit.sources.get_mut(usize::from(place.file)) else { return Ok(None) };
        source.seek(place.offset)?;
        source.read_line(&mut unit.line)?;
        unit.place = match line::parse(&unit.line) {
            Some(Line::Text(entry)) => Some((place, entry.stamp)),
            _ => None,
        };
        Ok(unit.entry())
    }
}

impl Unit {
    /// Opens the newer file first: if it is rotated in between, it is found twice and not missed.
    fn open(folder: &Folder, unit: &str) -> io::Result<Self> {
        let mut sources = Vec::new();
        let mut seen = None;
        for name in [current(unit), previous(unit)] {
            let file = match folder.file(name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            let metadata = file.metadata()?;
            if seen.replace(metadata.ino()) != Some(metadata.ino()) {
                let (file, size) = (BufReader::with_capacity(BUFFER, file), metadata.len());
                sources.insert(0, Source { file, size, offset: 0 });
            }
        }
        Ok(Self { sources, at: 0, boot: 0, line: Vec::new(), place: None })
    }

    /// Advances to the next line of output.
    fn advance(&mut self, unit: usize, boots: &[String]) -> io::Result<()> {
        self.place = None;
        while let Some(source) = self.sources.get_mut(self.at) {
            let offset = source.offset;
            if !source.read_line(&mut self.line)? {
                self.at += 1;
                continue;
            }
            match line::parse(&self.line) {
                Some(Line::Boot(id)) => {
                    let known = boots.iter().position(|boot| boot.as_bytes() == id);
                    self.boot = known.map_or(0, |at| u32::try_from(at + 1).unwrap_or(u32::MAX));
                }
                Some(Line::Text(entry)) => {
                    let unit = u16::try_from(unit).unwrap_or(u16::MAX);
                    let file = u16::try_from(self.at).unwrap_or(u16::MAX);
                    let place = Place { unit, file, boot: self.boot, offset };
                    self.place = Some((place, entry.stamp));
                    return Ok(());
                }
                None => {}
            }
        }
        Ok(())
    }

    fn entry(&self) -> Option<Entry<'_>> {
        let (place, _) = self.place?;
        match line::parse(&self.line)? {
            Line::Text(line::Entry { stamp, source, text }) => {
                Some(Entry { place, stamp, source, text })
            }
            Line::Boot(_) => None,
        }
    }
}

impl Source {
    fn seek(&mut self, offset: u64) -> io::Result<()> {
        let (to, from) = (i64::try_from(offset), i64::try_from(self.offset));
        match (to, from) {
            // Keeps the buffer if the position is near.
            (Ok(to), Ok(from)) => self.file.seek_relative(to - from)?,
            _ => drop(self.file.seek(SeekFrom::Start(offset))?),
        }
        self.offset = offset;
        Ok(())
    }

    /// Reads a line without its newline. Returns false at the end. The rest of a line that is
    /// longer than any line of the log is skipped.
    fn read_line(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        line.clear();
        while self.offset < self.size {
            let left = usize::try_from(self.size - self.offset).unwrap_or(usize::MAX);
            let buffer = self.file.fill_buf()?;
            let buffer = &buffer[..buffer.len().min(left)];
            if buffer.is_empty() {
                // The file was truncated.
                self.offset = self.size;
                break;
            }
            let end = buffer.iter().position(|&byte| byte == b'\n');
            let part = &buffer[..end.unwrap_or(buffer.len())];
            line.extend_from_slice(&part[..part.len().min(LINE_MAX - line.len().min(LINE_MAX))]);
            let used = part.len() + usize::from(end.is_some());
            self.file.consume(used);
            self.offset += used as u64;
            if end.is_some() {
                return Ok(true);
            }
        }
        Ok(!line.is_empty())
    }
}
