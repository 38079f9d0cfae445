//! kubectl, with a deadline: a node that hangs must not stop its harness.

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::{self, Command};
use crate::qemu::LOOK;

/// The longest time for one command. A drain waits for pods on an emulated machine.
const COMMAND_MAX: Duration = Duration::from_mins(3);

/// The end of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// True if its status is 0.
    pub success: bool,
    /// Its standard output.
    pub output: String,
    /// Its messages.
    pub messages: String,
}

/// Runs a command with its output in files of `folder`, and kills it at the deadline.
pub fn ask(command: Command, folder: &Path) -> Result<Answer> {
    let [output, messages] = ["kubectl.out", "kubectl.err"].map(|name| folder.join(name));
    let create = |path: &Path| {
        File::create(path).with_context(|| format!("cannot create {}", path.display()))
    };
    let command = command.output_to(create(&output)?.into(), create(&messages)?.into());
    let mut running = command.own_group().spawn()?;
    let until = Instant::now() + COMMAND_MAX;
    let status = loop {
        process::check_interrupt()?;
        match running.try_wait()? {
            Some(status) => break status,
            None if Instant::now() > until => {
                bail!("kubectl did not end within {} s", COMMAND_MAX.as_secs())
            }
            None => thread::sleep(LOOK),
        }
    };
    let read = |path: &Path| -> Result<String> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(Answer { success: status.success(), output: read(&output)?, messages: read(&messages)? })
}
