//! `cargo xtask run`

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use super::target::Target;
use crate::build::machine;
use crate::process;
use crate::qemu::{self, Machine, Options, PortChoice, check_free, forwards};

#[derive(Debug, Args)]
pub(super) struct Run {
    #[command(flatten)]
    target: Target,
    /// Power the node off once all pods have answered; exit status 0 means success
    #[arg(long)]
    check: bool,
    /// Let the node's port PORT answer on another port of this host
    #[arg(long = "port", value_name = "PORT=HOSTPORT")]
    ports: Vec<PortChoice>,
    /// The node's memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = machine::MEMORY, value_parser = machine::memory())]
    memory: u32,
    /// Draw the timeline of the boot into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// More arguments for QEMU; a path after `file=`, `filename=` or `path=` may be relative
    #[arg(last = true, value_name = "QEMU ARGUMENT")]
    qemu: Vec<String>,
}

/// Keys of QEMU's options whose value is a path.
const PATH_KEYS: [&str; 3] = ["file", "filename", "path"];

impl Run {
    pub(super) fn run(self) -> Result<()> {
        let builder = self.target.open()?;
        let forwards = forwards(&builder.config.ports(), &self.ports)?;
        // Checked before minutes of building, not after.
        check_free(&forwards)?;
        let here = std::env::current_dir().context("cannot find the current folder")?;
        let extra = self.qemu.iter().map(|argument| absolute(argument, &here)).collect();
        let machine = machine::of(&builder, &builder.image()?, forwards, self.memory)?;
        let machine = Machine { extra, ..machine };
        process::check_interrupt()?;
        qemu::run(&machine, Options { check: self.check, svg: self.svg })
    }
}

/// Makes relative paths in an argument of QEMU absolute, because QEMU runs in a folder of its own.
///
/// A value with a colon names a protocol (`fat:rw:folder`) and stays as it is. In a value, QEMU
/// reads two commas as one.
fn absolute(argument: &str, here: &Path) -> String {
    let here = here.display().to_string().replace(',', ",,");
    let part = |part: &str| match part.split_once('=') {
        Some((key, path))
            if PATH_KEYS.contains(&key) && !path.starts_with('/') && !path.contains(':') =>
        {
            format!("{key}={here}/{path}")
        }
        _ => part.to_owned(),
    };
    argument.split(',').map(part).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(argument: &str, expected: &str) {
        assert_eq!(absolute(argument, Path::new("/a,b")), expected);
    }

    #[test]
    fn a_relative_path_means_the_users_folder() {
        check("if=none,id=d,file=disk.img", "if=none,id=d,file=/a,,b/disk.img");
        check("if=none,file=x,,y.img,format=raw", "if=none,file=/a,,b/x,,y.img,format=raw");
    }

    #[test]
    fn other_arguments_stay_as_they_are() {
        for argument in ["-drive", "file=/x.img", "file=fat:rw:x", "base=2020-01-01", "user,id=n"] {
            check(argument, argument);
        }
    }
}
