//! The verbs of `cargo xtask`, one file each.

mod bench;
mod build;
mod check;
mod clean;
mod cluster;
mod compare;
mod credential;
mod fetch;
mod image;
mod plan;
mod run;
mod size;
mod target;
mod test;
mod update;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Bakes a Kubernetes node into one EFI file.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build the image, boot it in QEMU, and show its console and the addresses of its pods
    Run(run::Run),
    /// Start a Kubernetes control plane on this host, and nodes in QEMU that join it
    Cluster(cluster::Cluster),
    /// Build the image
    Build(build::Build),
    /// Show the steps of a build without running them
    Plan(plan::Plan),
    /// Download everything that building, running and testing need, so that they work offline
    Fetch(fetch::Fetch),
    /// Run the tests: the checks on the host, and scenarios on virtual machines
    Test(test::Test),
    /// List the contents of the image, and fail if it exceeds its budget
    Size(size::Size),
    /// Write a package's container image, or push it to a registry
    Image(image::Image),
    /// Check the configuration, the lock and the packages, without building
    Check(check::Check),
    /// Pin the Debian packages of each layer in its build.lock
    ///
    /// Missing pins are added, and pins that no package needs are removed. All others keep their
    /// versions, unless NAME or --all moves them.
    Update(update::Update),
    /// Compare the image or its pods with their peers, in one run
    Bench(bench::Bench),
    /// Compare the static server's answers with those of nginx and lighttpd
    Compare(compare::Compare),
    /// Make the credentials of a node
    Credential(credential::Credential),
    /// Delete the cache
    Clean(clean::Clean),
}

impl Cli {
    /// Runs the verb.
    pub fn run(self) -> Result<()> {
        match self.verb {
            Verb::Run(verb) => verb.run(),
            Verb::Cluster(verb) => verb.run(),
            Verb::Build(verb) => verb.run(),
            Verb::Plan(verb) => verb.run(),
            Verb::Fetch(verb) => verb.run(),
            Verb::Test(verb) => verb.run(),
            Verb::Size(verb) => verb.run(),
            Verb::Image(verb) => verb.run(),
            Verb::Check(verb) => verb.run(),
            Verb::Update(verb) => verb.run(),
            Verb::Bench(verb) => verb.run(),
            Verb::Compare(verb) => verb.run(),
            Verb::Credential(verb) => verb.run(),
            Verb::Clean(clean::Clean {}) => clean::Clean::run(),
        }
    }
}
