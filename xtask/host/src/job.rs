//! A measurement as data: the builder writes a [`Job`], and the program in `benches/peers` reads it.
//!
//! A job names finished programs and images by their paths, so the program that measures needs no
//! plan, no cache and no configuration. The file is JSON and is kept, so that a measurement can be
//! repeated by hand: `cargo run --package peers-bench -- target/kiln/bench/job.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::tool::HostTool;

/// One measurement or comparison.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Job {
    /// Boots two images in turn.
    Boot(Boot),
    /// Measures the static server next to other web servers.
    StaticServer(StaticServer),
    /// Measures the gateway next to other relays.
    Gateway(Gateway),
    /// Measures `pages` with many sites.
    Pages(Pages),
    /// Compares the static server's answers with those of nginx and lighttpd.
    Answers(Answers),
    /// Has slowhttptest attack the static server.
    Slow(Programs),
}

/// Two images that are booted in turn on the same virtual machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// `qemu-system-x86_64`.
    pub qemu: HostTool,
    /// OVMF's code.
    pub firmware: PathBuf,
    /// OVMF's empty variables.
    pub variables: PathBuf,
    /// The folder for the files of virtual machines.
    pub scratch: PathBuf,
    /// Our image.
    pub ours: PathBuf,
    /// The image that ours is compared with.
    pub peer: PathBuf,
    /// The kind of image that `peer` is.
    pub kind: Peer,
    /// Memory of the virtual machine in MiB.
    pub memory: u32,
    /// The node's port on which the measured pod answers.
    pub port: u16,
    /// Boots of each image.
    pub rounds: usize,
    /// True if a boot continues until the memory in use is read, and then, except for the floor,
    /// until the node is shut down. Adds a balloon device to both machines.
    pub settle: bool,
    /// The file to draw the medians into.
    pub svg: Option<PathBuf>,
}

/// The kind of image that ours is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    /// The bare C init of `benches/floor`.
    Floor,
    /// Another image with Kiln's PID 1.
    Other,
}

/// The programs that a measurement starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Programs {
    /// Our program.
    pub ours: PathBuf,
    /// Package of another project → the folder that it is unpacked in.
    pub peers: BTreeMap<String, PathBuf>,
    /// The folder with the load generator and the bare loops of a crate in `benches/`; only
    /// comparisons of speed have one.
    pub load: Option<PathBuf>,
}

/// Length and number of the runs of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    /// Runs of each program and case, in turn with the others.
    pub rounds: usize,
    /// The length of one run.
    pub time: Duration,
}

/// Web servers that are measured in turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaticServer {
    /// The static server, its peers and its load.
    pub programs: Programs,
    /// The program that makes packs.
    pub packer: PathBuf,
    /// The folder for sites, configurations and logs; it is cleared first.
    pub scratch: PathBuf,
    /// Length and number of the runs.
    pub runs: Runs,
    /// Only cases whose name contains one of these texts; all cases if empty.
    pub cases: Vec<String>,
    /// The file to draw the processor time into.
    pub svg: Option<PathBuf>,
}

/// Relays that are measured in turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    /// The gateway, its peers and its load.
    pub programs: Programs,
    /// The folder for configurations and logs; it is cleared first.
    pub scratch: PathBuf,
    /// Length and number of the runs.
    pub runs: Runs,
    /// Connections that are held open for the figure of memory.
    pub idle: usize,
}

/// A real API server and a real git server, between which the roles of `pages` are measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pages {
    /// The program.
    pub pages: PathBuf,
    /// kubectl.
    pub kubectl: PathBuf,
    /// The kubeconfig of the administrator.
    pub admin: PathBuf,
    /// The kubeconfig of the operator's account.
    pub operator: PathBuf,
    /// The kubeconfig of the syncer's account.
    pub syncer: PathBuf,
    /// The file in which the API server records requests.
    pub audit: PathBuf,
    /// The beginning of the URLs of repositories.
    pub git: String,
    /// The folder that the git server serves.
    pub repositories: PathBuf,
    /// The folder for data and logs.
    pub scratch: PathBuf,
    /// The number of sites.
    pub sites: usize,
    /// The length of the idle phase.
    pub idle: Duration,
    /// Pushes in a second.
    pub rate: u32,
    /// The number of pushes.
    pub pushes: usize,
}

/// Requests whose answers are compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// The static server, nginx and lighttpd.
    pub programs: Programs,
    /// The document that explains each difference.
    pub table: PathBuf,
}

impl Programs {
    /// Returns the folder of another project's package.
    pub fn peer(&self, package: &str) -> Result<&Path> {
        let folder = self.peers.get(package).map(PathBuf::as_path);
        folder.with_context(|| format!("the job has no package `{package}`"))
    }

    /// Returns the folder with the load generator.
    pub fn load(&self) -> Result<&Path> {
        self.load.as_deref().context("the job has no load generator")
    }
}

impl Job {
    /// Writes the job, and creates its folder if it is missing.
    pub fn write(&self, path: &Path) -> Result<()> {
        let context = || format!("cannot write {}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).with_context(context)?;
        }
        let text = serde_json::to_string_pretty(self).with_context(context)?;
        fs::write(path, text + "\n").with_context(context)
    }

    /// Reads a job.
    pub fn read(path: &Path) -> Result<Self> {
        let context = || format!("cannot read {}", path.display());
        let text = fs::read_to_string(path).with_context(context)?;
        serde_json::from_str(&text).with_context(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_reads_back_as_it_was_written() {
        let programs = Programs {
            ours: "/ours".into(),
            peers: [("nginx".to_owned(), "/nginx".into())].into(),
            load: None,
        };
        let job = Job::Answers(Answers { programs, table: "/table.md".into() });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new").join("job.json");
        job.write(&path).unwrap();
        assert_eq!(Job::read(&path).unwrap(), job);
    }
}
