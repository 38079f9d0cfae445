//! `cargo xtask run`

use anyhow::Result;
use clap::Args;

use super::Target;
use crate::build::machine;
use crate::process;
use crate::qemu::{self, Options, PortChoice, check_free, forwards};

#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    target: Target,
    /// Power the node off once everything has answered; exit status 0 means that it did
    #[arg(long)]
    check: bool,
    /// Let the node's port PORT answer on another port of this host
    #[arg(long = "port", value_name = "PORT=HOSTPORT")]
    ports: Vec<PortChoice>,
    /// The node's memory in MiB
    #[arg(long, default_value_t = machine::MEMORY)]
    memory: u32,
}

impl Run {
    pub(super) fn run(self) -> Result<()> {
        let builder = self.target.open()?;
        let forwards = forwards(&builder.config.ports(), &self.ports)?;
        // Asked before minutes of building, not after.
        check_free(&forwards)?;
        let machine = machine::of(&builder, &builder.image()?, forwards, self.memory)?;
        process::check_interrupt()?;
        qemu::run(&machine, Options { check: self.check })
    }
}
