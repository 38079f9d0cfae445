//! Two images side by side: Kiln's and a floor's, or two of Kiln's, booted in turn on the same
//! machine; and, in [`web`] and [`gateway`], programs of ours beside others.
//!
//! Seconds under emulation mean little by themselves; the ratio of two boots a minute apart does.
//! `docs/benchmarks.md` says what the floor is and how to read the table.

mod boot;
mod floor;
pub mod gateway;
mod table;
pub mod web;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::build::{Builder, machine};
use crate::process;
use crate::qemu::{Machine, free_forwards};
use boot::{After, Outcome};
use table::{FLOOR, OTHER, OURS, Times};

/// How often one boot is tried again when the machine, not the image, was at fault.
const TRIES: usize = 3;

/// The device through which the host reads the guest's memory, by the name that QMP knows it by.
const BALLOON: &str = "balloon";

/// How the images are compared.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Boots of each image, in turn.
    pub rounds: usize,
    /// Whether each boot goes on until the memory in use can be read, and one that has a shutdown is
    /// shut down. Adds a device to both.
    pub memory: bool,
}

/// What Kiln's image is compared with.
pub enum Peer {
    /// The floor's image, which is built for it.
    Floor,
    /// A finished image.
    File(PathBuf),
    /// Another build file's image.
    Image(Box<Builder>),
}

/// Builds both images, boots them in turn and prints the times of each boot, their medians and the ratios.
pub fn boot(builder: &Builder, peer: &Peer, options: Options) -> Result<()> {
    let machines = machines(builder, peer, options)?;
    let other = match peer {
        Peer::Floor => FLOOR,
        Peer::File(_) | Peer::Image(_) => OTHER,
    };
    println!("{}", table::heading());
    let mut rows: Vec<[Times; 2]> = Vec::new();
    for round in 1..=options.rounds {
        let mut row = Vec::new();
        for (name, machine) in [other, OURS].into_iter().zip(&machines) {
            let after = match (options.memory, name) {
                (false, _) => After::End,
                (true, FLOOR) => After::Memory,
                (true, _) => After::Shutdown,
            };
            let times = one(machine, after).with_context(|| format!("round {round}: {name}"))?;
            println!("{}", table::row(&round.to_string(), name, &times));
            row.push(times);
        }
        rows.push(<[Times; 2]>::try_from(row.as_slice())?);
    }
    print!("{}", table::summary(other, &rows));
    Ok(())
}

/// The peer's machine and Kiln's: the same but for the file.
fn machines(builder: &Builder, peer: &Peer, options: Options) -> Result<[Machine; 2]> {
    let folder = builder.inputs.workspace.join("target/kiln/bench");
    // The peer first: two images of one name are published under one name.
    let other = match peer {
        Peer::Floor => None,
        Peer::File(file) => Some(keep(&folder, file)?),
        Peer::Image(other) => Some(keep(&folder, &other.image()?.efi)?),
    };
    let built = builder.image()?;
    let other = other.map_or_else(|| floor::build(builder), Ok)?;
    let port = floor::port(builder)?;
    let mut ours = machine::of(builder, &built, free_forwards(&[port])?, machine::MEMORY)?;
    if options.memory {
        ours.extra.extend(["-device".into(), format!("virtio-balloon-pci,id={BALLOON}")]);
    }
    let mut theirs = ours.clone();
    theirs.efi = other;
    Ok([theirs, ours])
}

/// Copies an image to where no build replaces it. It may be the one that was kept the last time.
fn keep(folder: &Path, efi: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let kept = folder.join("other.efi");
    let new = folder.join("other.efi.new");
    fs::copy(efi, &new).with_context(|| format!("cannot copy {}", efi.display()))?;
    fs::rename(&new, &kept).with_context(|| format!("cannot replace {}", kept.display()))?;
    Ok(kept)
}

/// One boot that counts; one that was spoilt by the machine is repeated and said so.
fn one(machine: &Machine, after: After) -> Result<Times> {
    let mut spoilt = String::new();
    for _ in 0..TRIES {
        process::check_interrupt()?;
        match boot::measure(machine, after)? {
            Outcome::Booted(times) => return Ok(times),
            Outcome::Spoilt(reason) => {
                println!("does not count, once more: {reason}");
                spoilt = reason;
            }
        }
    }
    bail!("no boot of {TRIES} counts; the last: {spoilt}")
}

#[cfg(test)]
mod tests {
    use super::keep;

    #[test]
    fn the_image_that_was_kept_can_be_kept_again() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image.efi");
        std::fs::write(&image, "image").unwrap();
        let kept = keep(&folder.path().join("bench"), &image).unwrap();
        assert_eq!(keep(&folder.path().join("bench"), &kept).unwrap(), kept);
        assert_eq!(std::fs::read(kept).unwrap(), b"image");
    }
}
