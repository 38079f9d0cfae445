//! A full `/var`, and a process that waits for a disk and cannot be killed.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::node::ROOT;
use crate::own;

/// What fills `/var`.
const FILL: &str = "/var/fill";

/// The data disk, as the kernel names the first virtio disk.
const DISK: &str = "/dev/vda";

/// The least that is tried to be allocated: one block.
const BLOCK: u64 = 4096;

/// Takes all blocks, those reserved for root too.
pub(super) fn fill_var() -> Result<String> {
    let file = File::create(format!("{ROOT}{FILL}")).context("making a file on /var")?;
    let (mut at, mut step) = (0, 1 << 30);
    while step >= BLOCK {
        match fallocate(&file, FallocateFlags::empty(), at, step) {
            Ok(()) => at += step,
            Err(Errno::NOSPC) => step /= 2,
            Err(error) => return Err(error).context("filling /var"),
        }
    }
    Ok(format!("filled /var with {} MiB\n", at >> 20))
}

/// Gives all back.
pub(super) fn free_var() -> Result<String> {
    fs::remove_file(format!("{ROOT}{FILL}")).context("freeing /var")?;
    Ok("freed /var\n".to_owned())
}

/// Looks in a row that must find the reader waiting.
const LOOKS: u32 = 200;

/// Starts a process that reads from a disk that does not answer, and sees that SIGKILL does not end it.
pub(super) fn uninterruptible() -> Result<String> {
    let child = own::command(&["read-direct"]).spawn().context("starting a reader")?;
    let id = child.id().cast_signed();
    // A disk that has rested lets a read pass before it stalls, and a reader waits for a moment
    // for other things too: it hangs when it is found waiting each time.
    let mut waiting = 0;
    while waiting < LOOKS {
        waiting = if state(id)? == 'D' { waiting + 1 } else { 0 };
        thread::sleep(Duration::from_millis(5));
    }
    let pid = Pid::from_raw(id).context("process ids are positive")?;
    kill_process(pid, Signal::KILL).context("killing the reader")?;
    thread::sleep(Duration::from_secs(1));
    match state(id)? {
        'D' => Ok("a process waits for ever\n".to_owned()),
        state => bail!("the reader is in state {state}"),
    }
}

/// The letter of proc(5)'s `/proc/PID/stat`.
fn state(pid: i32) -> Result<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the reader is gone")?;
    let (_, rest) = stat.rsplit_once(") ").context("no state")?;
    rest.chars().next().context("no state")
}

/// Reads past the page cache, for ever: such a read waits without listening to signals.
pub(crate) fn read_direct() -> Result<()> {
    let mut open = OpenOptions::new();
    open.read(true).custom_flags(OFlags::DIRECT.bits().cast_signed());
    let mut disk = open.open(DISK).with_context(|| DISK.to_owned())?;
    // The kernel asks for a buffer at a multiple of a sector.
    let block = usize::try_from(BLOCK)?;
    let mut memory = vec![0; 2 * block];
    let skip = memory.as_ptr().align_offset(block);
    loop {
        disk.read_exact(&mut memory[skip..skip + block]).context("reading")?;
    }
}
