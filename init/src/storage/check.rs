//! Mends a damaged file system with e2fsck, before it is mounted.
//!
//! e2fsck runs once with `-f -p`: it checks everything and mends what loses no data. It can take
//! minutes on a large disk, during which the boot waits knowingly; what it cannot mend is left to a
//! person.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use kiln_contract::cgroup::INIT;
use kiln_contract::path::E2FSCK;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;

use crate::kernel::cgroup;
use crate::process::spawn::{self, Program};

/// The time limit. A full check reads all metadata: minutes on a hard disk with many files.
pub const DEADLINE: Duration = Duration::from_mins(10);

/// The time that a killed e2fsck gets to end. A process that waits for a disk ends later.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// e2fsck's messages.
const LOG: &str = "/run/kiln/e2fsck.log";

/// The bytes of its messages that are kept.
const LOG_BYTES_MAX: u64 = 64 * 1024;

/// Mends a partition. An error says why it cannot be used.
pub fn run(device: &Path) -> Result<()> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe")?;
    let arguments = [c"e2fsck".into(), c"-f".into(), c"-p".into()];
    let device = CString::new(device.as_os_str().as_encoded_bytes())?;
    let program = Program {
        path: CString::new(E2FSCK)?,
        args: arguments.into_iter().chain([device]).collect(),
        env: Vec::new(),
        oom_score: c"0",
    };
    let group = cgroup::open(INIT)?;
    let child = spawn::start(&program, Some(group.as_fd()), writer.as_fd())?;
    drop(writer);
    // The messages are only for people, so a failure to keep them changes nothing.
    let keep = thread::Builder::new().name("e2fsck".into()).spawn(move || keep(reader.into()));
    let begin = Instant::now();
    let status = child.wait(DEADLINE);
    if status.is_none() && begin.elapsed() >= DEADLINE {
        child.signal(Signal::KILL);
        let _ = child.wait(AFTER_KILL);
        bail!("e2fsck did not end in {} minutes", DEADLINE.as_secs() / 60);
    }
    let _ = keep.map(thread::JoinHandle::join);
    judge(status)
}

/// Judges the exit status (e2fsck(8)): 1 and 2 mean that errors were corrected.
fn judge(status: Option<i32>) -> Result<()> {
    match status {
        Some(0..=3) => Ok(()),
        Some(status) if status & 4 != 0 => bail!("e2fsck cannot mend it without losing data"),
        Some(status) => bail!("e2fsck failed with status {status}"),
        None => bail!("e2fsck was killed"),
    }
}

/// Copies the first messages to a file, and reads the rest so that e2fsck never waits.
fn keep(mut pipe: File) {
    let mut first = Vec::new();
    let _ = Read::by_ref(&mut pipe).take(LOG_BYTES_MAX).read_to_end(&mut first);
    let _ = File::create(LOG).and_then(|mut file| file.write_all(&first));
    let _ = std::io::copy(&mut pipe, &mut std::io::sink());
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn corrected_errors_are_fine_and_all_others_are_a_refusal() {
        for status in 0..256 {
            assert_eq!(judge(Some(status)).is_ok(), status < 4, "{status}");
        }
        assert!(judge(None).is_err());
        assert!(judge(Some(4)).unwrap_err().to_string().contains("losing data"));
        assert!(judge(Some(12)).unwrap_err().to_string().contains("losing data"));
    }
}
