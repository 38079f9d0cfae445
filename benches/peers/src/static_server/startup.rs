//! The time that servers take to their first answer with many files, all in the page cache, and the
//! memory that they hold then.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kiln_host::job::StaticServer;
use kiln_host::process::{self, Command};

use super::table;
use crate::median::median;
use crate::servers::{self, Kind, Place};
use crate::usage;

/// A folder of many files of text that compresses.
struct Set {
    name: &'static str,
    folders: usize,
    /// Files in each folder.
    files: usize,
    /// Bytes of each file.
    length: usize,
}

const SETS: [Set; 2] = [
    Set { name: "10,000 files of 1 KiB", folders: 100, files: 100, length: 1024 },
    Set { name: "200,000 files of 64 bytes", folders: 200, files: 1000, length: 64 },
];

const KINDS: [Kind; 5] = [Kind::Ours, Kind::Pack, Kind::Nginx, Kind::Lighttpd, Kind::H2o];

/// Returns the folder, or for [`Kind::Pack`] a new pack of it.
pub fn content_of(packer: &Path, kind: Kind, folder: &Path) -> Result<PathBuf> {
    if kind != Kind::Pack {
        return Ok(folder.to_owned());
    }
    let pack = folder.with_extension("pack");
    let command = Command::new(packer).arg("--in").arg(folder).arg("--out").arg(&pack);
    command.output().context("cannot make a pack")?;
    Ok(pack)
}

/// Starts each server in turn for some rounds with each set, and renders the medians.
pub fn measure(job: &StaticServer, core: usize) -> Result<String> {
    let mut out = String::new();
    for (number, set) in SETS.iter().enumerate() {
        let folder = job.scratch.join(format!("many-{number}"));
        many(&folder, set)?;
        out += &starts(job, set, &folder, core)?;
        out.push('\n');
    }
    Ok(out)
}

fn starts(job: &StaticServer, set: &Set, folder: &Path, core: usize) -> Result<String> {
    let contents = KINDS
        .map(|kind| content_of(&job.packer, kind, folder))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); KINDS.len()];
    let mut memory = [0; KINDS.len()];
    for _ in 0..job.runs.rounds {
        for (at, kind) in KINDS.into_iter().enumerate() {
            process::check_interrupt()?;
            let scratch = job.scratch.join("start").join(format!("{kind:?}"));
            let probe = "/99/99.txt";
            let place =
                Place { content: &contents[at], scratch: &scratch, core: Some(core), probe };
            let mut server = servers::start(&job.programs, kind, place)?;
            times[at].push(server.started.as_secs_f64() * 1e3);
            memory[at] = usage::memory(&server.processes()?)?.held;
        }
    }
    let measured = KINDS.iter().zip(times).zip(memory).filter_map(|((kind, times), memory)| {
        Some([kind.name().to_owned(), format!("{:.1}", median(times)?), memory.to_string()])
    });
    let rows: Vec<_> = measured.collect();
    let title = format!("Start to first answer with {}", set.name);
    Ok(table::markdown(&title, ["server", "ms", "anonymous + shared, KiB"], &rows))
}

/// Returns hexadecimal text, which compresses to half of its length.
pub fn text(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let digit = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        b"0123456789abcdef"[usize::from((state >> 60) as u8)]
    };
    (0..length).map(digit).collect()
}

fn many(folder: &Path, set: &Set) -> Result<()> {
    for number in 0..set.folders {
        let folder = folder.join(number.to_string());
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        for file in 0..set.files {
            let path = folder.join(format!("{file}.txt"));
            let seed = (number * set.files + file) as u64;
            fs::write(&path, text(set.length, seed))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}
