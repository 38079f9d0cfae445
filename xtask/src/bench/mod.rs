//! `bench` and `compare`: makes programs and images through the plan, and starts the program in
//! `benches/peers` with a job that names them.
//!
//! That program is a crate of its own, so that no other verb has to compile it.

mod floor;
pub mod pages;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kiln_base::replace::{self, Durability};
use kiln_host::job::{self, Answers, Gateway, Job, Programs, Runs, StaticServer};
use kiln_host::process::{Command, shell};
use kiln_host::qemu::Start;
use xshell::cmd;

use crate::build::{Builder, machine, packer};
use crate::config::{PEERS, RELAYS, SLOW};
use crate::plan::{PACKER, staged};

/// The package of the static server, and its program.
const STATIC_SERVER: &str = "static-server";

/// The package of the gateway, and its program.
const GATEWAY: &str = "gateway";

/// The document that explains each difference between web servers.
const DIFFERENCES: &str = "docs/static-server-differences.md";

/// The folder for compiled load generators and the job, below the workspace.
const FOLDER: &str = "target/kiln/bench";

/// The image that ours is compared with.
pub enum Peer {
    /// The floor's image, which is built for the comparison.
    Floor,
    /// A finished image.
    File(PathBuf),
    /// Another build file's image.
    Image(Box<Builder>),
}

/// Builds both images and boots them in turn. With `settle` each boot continues until its memory is
/// read and the node is shut down.
pub fn boot(
    builder: &Builder,
    peer: &Peer,
    rounds: usize,
    settle: bool,
    svg: Option<PathBuf>,
) -> Result<()> {
    let folder = builder.inputs.workspace.join(FOLDER);
    // The peer comes first, because two images of the same name are published to the same path.
    let other = match peer {
        Peer::Floor => None,
        Peer::File(file) => Some(keep(&folder, file)?),
        Peer::Image(other) => Some(keep(&folder, &other.image()?.efi)?),
    };
    let kind = if other.is_some() { job::Peer::Other } else { job::Peer::Floor };
    let built = builder.image()?;
    let peer = other.map_or_else(|| floor::build(builder), Ok)?;
    let machine = machine::of(builder, &built, Vec::new(), machine::MEMORY)?;
    let Start::Firmware { code, variables, efi, .. } = machine.start else {
        bail!("cannot compare boots without firmware")
    };
    start(
        builder,
        &Job::Boot(job::Boot {
            qemu: machine.qemu,
            firmware: code,
            variables,
            scratch: machine.scratch,
            memory: machine.memory,
            ours: efi,
            peer,
            kind,
            port: floor::port(builder)?,
            rounds,
            settle,
            svg,
        }),
    )
}

/// Measures the static server, or `program` in its place, next to other web servers.
pub fn static_server(
    builder: &Builder,
    program: Option<PathBuf>,
    runs: Runs,
    cases: Vec<String>,
    svg: Option<PathBuf>,
) -> Result<()> {
    let mut programs = programs(builder, &PEERS, STATIC_SERVER, program)?;
    programs.load = Some(load(builder, "web-bench")?);
    let packer = packer(&builder.make(&[PACKER])?)?;
    let scratch = builder.inputs.workspace.join("target/kiln/web");
    start(builder, &Job::StaticServer(StaticServer { programs, packer, scratch, runs, cases, svg }))
}

/// Measures the gateway, or `program` in its place, next to other relays.
pub fn gateway(builder: &Builder, program: Option<PathBuf>, runs: Runs, idle: usize) -> Result<()> {
    let mut programs = programs(builder, &RELAYS, GATEWAY, program)?;
    programs.load = Some(load(builder, "relay-bench")?);
    let scratch = builder.inputs.workspace.join("target/kiln/gateway");
    start(builder, &Job::Gateway(Gateway { programs, scratch, runs, idle }))
}

/// Compares the answers of the static server, or of `program` in its place, with those of its peers.
///
/// Returns the command, because `test` and `compare` show its output in different places.
pub fn answers(builder: &Builder, program: Option<PathBuf>) -> Result<Command> {
    let programs = programs(builder, &["lighttpd", "nginx"], STATIC_SERVER, program)?;
    let table = builder.inputs.workspace.join(DIFFERENCES);
    command(builder, &Job::Answers(Answers { programs, table }))
}

/// Has slowhttptest attack the static server, or `program` in its place.
pub fn slow(builder: &Builder, program: Option<PathBuf>) -> Result<()> {
    start(builder, &Job::Slow(programs(builder, &[SLOW], STATIC_SERVER, program)?))
}

/// Makes the packages `peers` and, unless `program` takes its place, our package `ours`.
fn programs(
    builder: &Builder,
    peers: &[&str],
    ours: &str,
    program: Option<PathBuf>,
) -> Result<Programs> {
    let mut goals: Vec<&str> = peers.to_vec();
    if program.is_none() {
        goals.push(ours);
    }
    let goals: Vec<String> = goals.into_iter().map(staged).collect();
    let goals: Vec<&str> = goals.iter().map(String::as_str).collect();
    let made = builder.make(&goals)?;
    let folder = |package: &str| -> Result<PathBuf> {
        let entry = made.get(&staged(package));
        Ok(entry.with_context(|| format!("`{package}` was not made"))?.path().to_owned())
    };
    let ours = match program {
        Some(program) => std::path::absolute(program)?,
        None => folder(ours)?.join(ours),
    };
    let peers = peers.iter().map(|peer| Ok(((*peer).to_owned(), folder(peer)?)));
    Ok(Programs { ours, peers: peers.collect::<Result<BTreeMap<_, _>>>()?, load: None })
}

/// Compiles the load generators of a crate in `benches/` and returns their folder.
fn load(builder: &Builder, package: &str) -> Result<PathBuf> {
    let workspace = &builder.inputs.workspace;
    let target = workspace.join(FOLDER);
    let _task = builder.progress.task(&format!("{package}: cargo build"), None);
    let sh = shell()?;
    let build = cmd!(sh, "cargo build --quiet --release --locked --package {package}");
    Command::from(build)
        .dir(workspace)
        .with_whole_environment()
        .env("CARGO_TARGET_DIR", &target)
        .output()?;
    Ok(target.join("release"))
}

/// Compiles and runs the program in `benches/peers`.
fn start(builder: &Builder, job: &Job) -> Result<()> {
    command(builder, job)?.spawn()?.wait()
}

fn command(builder: &Builder, job: &Job) -> Result<Command> {
    let workspace = &builder.inputs.workspace;
    let file = workspace.join(FOLDER).join("job.json");
    job.write(&file)?;
    let sh = shell()?;
    let run = cmd!(sh, "cargo run --locked --package peers-bench -- {file}");
    Ok(Command::from(run).dir(workspace).with_whole_environment())
}

/// Copies an image to a file that no build replaces. The source may be the image that was kept last
/// time.
fn keep(folder: &Path, efi: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let kept = folder.join("other.efi");
    replace::copy(efi, &kept, Durability::None)
        .with_context(|| format!("cannot copy {} to {}", efi.display(), kept.display()))?;
    Ok(kept)
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
