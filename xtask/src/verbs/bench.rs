//! `cargo xtask bench`

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use kiln_host::job::Runs;

use super::target::Target;
use crate::arch::Arch;
use crate::bench::pages::Load;
use crate::bench::{self, Peer};
use crate::build::Builder;
use crate::progress::Progress;

#[derive(Debug, Args)]
pub(super) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Boot the image and a bare C init, or another image, in turn, and compare their times
    Boot(Boot),
    /// Compare the static server with nginx, lighttpd, h2o and bare loops
    StaticServer(StaticServer),
    /// Compare the gateway with haproxy, nginx and a bare splice loop
    Gateway(Gateway),
    /// Measure the pages service with many sites, at a real API server and a real git server
    Pages(Pages),
}

#[derive(Debug, Args)]
struct Boot {
    #[command(flatten)]
    target: Target,
    /// Number of boots of each image
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Compare with this image instead: a finished file (NAME.efi), or a build file
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Also read the memory in use a minute after the pod's first answer, and time a shutdown
    #[arg(long)]
    memory: bool,
    /// Draw the medians of both images into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct StaticServer {
    /// Number of runs of each server and case
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Length of each run in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    seconds: f64,
    /// Measure this program instead of the image's
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Run only cases whose name contains this text; may be repeated
    #[arg(long = "case", value_name = "TEXT")]
    cases: Vec<String>,
    /// Draw the processor time into this SVG file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Gateway {
    /// Number of runs of each gateway and case
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    rounds: u8,
    /// Length of each run in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
    seconds: f64,
    /// Measure this program instead of the image's
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Number of idle connections for the memory measurement
    #[arg(long, value_name = "N", default_value_t = 2000)]
    idle: usize,
}

#[derive(Debug, Args)]
struct Pages {
    /// Number of sites
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    sites: u32,
    /// Length of the idle phase in seconds; the default is one interval of all sites
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    idle: u32,
    /// Pushes in a second
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Number of pushes
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    pushes: u32,
    /// Measure this program instead of the image's
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

impl Pages {
    fn run(self) -> Result<()> {
        let Self { sites, idle, rate, pushes, program } = self;
        let load = Load {
            sites: usize::try_from(sites)?,
            idle: Duration::from_secs(idle.into()),
            rate,
            pushes: usize::try_from(pushes)?,
        };
        let builder = Target { config: None, arch: Arch::HOST }.open()?;
        bench::pages::measure(&builder, program, load)
    }
}

impl Gateway {
    fn run(self) -> Result<()> {
        let Self { rounds, seconds, program, idle } = self;
        let time =
            Duration::try_from_secs_f64(seconds).context("cannot use the value of --seconds")?;
        let builder = Target { config: None, arch: Arch::HOST }.open()?;
        bench::gateway(&builder, program, Runs { rounds: rounds.into(), time }, idle)
    }
}

impl Bench {
    pub(super) fn run(self) -> Result<()> {
        match self.what {
            What::Boot(verb) => verb.run(),
            What::StaticServer(verb) => verb.run(),
            What::Gateway(verb) => verb.run(),
            What::Pages(verb) => verb.run(),
        }
    }
}

impl Boot {
    fn run(self) -> Result<()> {
        let Self { target, rounds, against, memory, svg } = self;
        let peer = match against {
            None => Peer::Floor,
            Some(file) if file.extension().is_some_and(|kind| kind == "efi") => Peer::File(file),
            Some(file) => {
                let file = std::path::absolute(file)?;
                Peer::Image(Box::new(Builder::open(&file, target.arch, Progress::new())?))
            }
        };
        let svg = svg.map(std::path::absolute).transpose()?;
        bench::boot(&target.open()?, &peer, rounds.into(), memory, svg)
    }
}

impl StaticServer {
    fn run(self) -> Result<()> {
        let Self { rounds, seconds, program, cases, svg } = self;
        let time =
            Duration::try_from_secs_f64(seconds).context("cannot use the value of --seconds")?;
        let svg = svg.map(std::path::absolute).transpose()?;
        let builder = Target { config: None, arch: Arch::HOST }.open()?;
        bench::static_server(&builder, program, Runs { rounds: rounds.into(), time }, cases, svg)
    }
}
