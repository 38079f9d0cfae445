//! Two images booted in turn on the same virtual machine: Kiln's and the floor's, or two of Kiln's.
//!
//! Seconds under emulation mean little by themselves; the ratio of two boots a minute apart does.
//! `docs/benchmarks.md` describes the floor and the table.

mod measure;
mod picture;
mod table;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use kiln_host::job::{Boot, Peer};
use kiln_host::process;
use kiln_host::qemu::{Machine, Network, Start, WATCHDOG, free_forwards};
use kiln_host::{print, println};
use measure::{After, BALLOON, Outcome};
use table::{FLOOR, OTHER, OURS, Times};

/// Attempts at one boot, if the machine and not the image is at fault.
const TRIES: usize = 3;

/// Boots both images in turn and prints the times of each boot, their medians and the ratios.
pub fn images(job: &Boot) -> Result<()> {
    let other = match job.kind {
        Peer::Floor => FLOOR,
        Peer::Other => OTHER,
    };
    let machines = [machine(job, &job.peer)?, machine(job, &job.ours)?];
    println!("{}", table::heading());
    let mut rows: Vec<[Times; 2]> = Vec::new();
    for round in 1..=job.rounds {
        let mut row = Vec::new();
        for (name, machine) in [other, OURS].into_iter().zip(&machines) {
            let after = match (job.settle, name) {
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
    if let Some(path) = &job.svg {
        fs::write(path, picture::render(other, &rows))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Both images get the same machine, but each machine has forwarded ports of its own.
fn machine(job: &Boot, efi: &Path) -> Result<Machine> {
    let mut extra = Vec::new();
    if job.settle {
        extra.extend(["-device".into(), format!("virtio-balloon-pci,id={BALLOON}")]);
    }
    Ok(Machine {
        qemu: job.qemu.clone(),
        start: Start::Firmware {
            code: job.firmware.clone(),
            variables: job.variables.clone(),
            efi: efi.to_owned(),
            credentials: Vec::new(),
        },
        memory: job.memory,
        forwards: free_forwards(&[job.port])?,
        network: Network::User,
        watchdog: WATCHDOG,
        extra,
        scratch: job.scratch.clone(),
    })
}

/// Returns the times of a boot that counts; repeats a boot that the machine has spoilt.
fn one(machine: &Machine, after: After) -> Result<Times> {
    let mut spoilt = String::new();
    for _ in 0..TRIES {
        process::check_interrupt()?;
        match measure::measure(machine, after)? {
            Outcome::Booted(times) => return Ok(times),
            Outcome::Spoilt(reason) => {
                println!("this boot does not count and is repeated: {reason}");
                spoilt = reason;
            }
        }
    }
    bail!("cannot measure a boot: all {TRIES} attempts were spoilt; the last one: {spoilt}")
}
