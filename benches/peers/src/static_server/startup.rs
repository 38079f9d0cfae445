//! The time that servers take to their first answer with 10,000 files, all in the page cache.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kiln_host::job::StaticServer;
use kiln_host::process::{self, Command};

use super::table;
use crate::median::median;
use crate::servers::{self, Kind, Place};

/// Folders, and files in each.
const FOLDERS: usize = 100;
const FILES: usize = 100;

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

/// Starts each server in turn for some rounds, and renders the medians.
pub fn measure(job: &StaticServer, core: usize) -> Result<String> {
    let folder = job.scratch.join("many");
    many(&folder)?;
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); KINDS.len()];
    for _ in 0..job.runs.rounds {
        for (kind, times) in KINDS.into_iter().zip(&mut times) {
            process::check_interrupt()?;
            let content = content_of(&job.packer, kind, &folder)?;
            let scratch = job.scratch.join("start").join(format!("{kind:?}"));
            let place = Place {
                content: &content,
                scratch: &scratch,
                core: Some(core),
                probe: "/99/99.txt",
            };
            times.push(servers::start(&job.programs, kind, place)?.started.as_secs_f64() * 1e3);
        }
    }
    let measured = KINDS.iter().zip(times).filter_map(|(kind, times)| {
        Some([kind.name().to_owned(), format!("{:.1}", median(times)?)])
    });
    let rows: Vec<_> = measured.collect();
    Ok(table::markdown("Start to first answer with 10,000 files", ["server", "ms"], &rows))
}

fn many(folder: &Path) -> Result<()> {
    for number in 0..FOLDERS {
        let folder = folder.join(number.to_string());
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        for file in 0..FILES {
            let path = folder.join(format!("{file}.txt"));
            fs::write(&path, format!("file {file} of folder {number}\n"))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(())
}
