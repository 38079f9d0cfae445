//! The processes of the two services.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};

use super::host::Command;
use crate::kernel::cgroup;
use crate::process::spawn::{self, Child, Program};

/// A service with everything that a restart needs.
pub(super) struct ServiceProcess {
    program: Program,
    group: Option<OwnedFd>,
    /// The log's pipe. It stays open over restarts, so that no output is lost.
    output: OwnedFd,
    pub(super) child: Option<Child>,
    attempt: u32,
}

impl ServiceProcess {
    /// Prepares everything, so that a start allocates nothing. The process writes to `output`.
    pub(super) fn new(command: &Command, output: OwnedFd) -> Result<Self> {
        let group = command.group.map(cgroup::open).transpose()?;
        Ok(Self { program: program(command)?, group, output, child: None, attempt: 0 })
    }

    /// Changes the program of the next start. The control group stays.
    pub(super) fn replace(&mut self, command: &Command) -> Result<()> {
        self.program = program(command)?;
        Ok(())
    }

    /// Starts the process and returns the number of starts, this one included.
    pub(super) fn start(&mut self) -> Result<u32> {
        self.attempt = self.attempt.saturating_add(1);
        let group = self.group.as_ref().map(AsFd::as_fd);
        self.child = Some(spawn::start(&self.program, group, self.output.as_fd())?);
        Ok(self.attempt)
    }
}

fn program(command: &Command) -> Result<Program> {
    Ok(Program {
        path: CString::new(command.program.as_str())?,
        args: strings(std::iter::once(&command.program).chain(&command.args))?,
        env: strings(command.env.iter())?,
        oom_score: command.oom_score,
    })
}

fn strings<'a>(texts: impl Iterator<Item = &'a String>) -> Result<Vec<CString>> {
    texts.map(|text| CString::new(text.as_str()).context("a string contains a NUL")).collect()
}
