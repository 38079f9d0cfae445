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

/// The file that fills `/var`.
const FILL: &str = "/var/fill";

/// The data disk, by the kernel's name of the first virtio disk.
const DISK: &str = "/dev/vda";

/// The smallest allocation: one block.
const BLOCK: u64 = 4096;

/// Takes all blocks, including those reserved for root, and returns `spare` MiB of them.
pub(super) fn fill_var(spare: u32) -> Result<String> {
    let file = File::create(format!("{ROOT}{FILL}")).context("cannot create a file on /var")?;
    let (mut at, mut step) = (0, 1 << 30);
    while step >= BLOCK {
        match fallocate(&file, FallocateFlags::empty(), at, step) {
            Ok(()) => at += step,
            Err(Errno::NOSPC) => step /= 2,
            Err(error) => return Err(error).context("cannot fill /var"),
        }
    }
    file.set_len(at.saturating_sub(u64::from(spare) << 20)).context("cannot truncate a file")?;
    Ok(format!("filled /var with {} MiB\n", at >> 20))
}

/// Frees all blocks.
pub(super) fn free_var() -> Result<String> {
    fs::remove_file(format!("{ROOT}{FILL}")).context("cannot free /var")?;
    Ok("freed /var\n".to_owned())
}

/// The number of checks in a row that must find the reader waiting.
const LOOKS: u32 = 200;

/// Starts a process that reads from a disk without an answer, and checks that SIGKILL does not end it.
pub(super) fn uninterruptible() -> Result<String> {
    let child = own::command(&["read-direct"]).spawn().context("cannot start a reader")?;
    let id = child.id().cast_signed();
    // An idle disk lets one read pass before it stalls, and a reader sometimes waits for other things:
    // it hangs if every check finds it waiting.
    let mut waiting = 0;
    while waiting < LOOKS {
        waiting = if state(id)? == 'D' { waiting + 1 } else { 0 };
        thread::sleep(Duration::from_millis(5));
    }
    let pid = Pid::from_raw(id).context("process ids are positive")?;
    kill_process(pid, Signal::KILL).context("cannot kill the reader")?;
    thread::sleep(Duration::from_secs(1));
    match state(id)? {
        'D' => Ok("a process waits forever\n".to_owned()),
        state => bail!("the reader is in state {state}"),
    }
}

/// Returns the letter of the state in `/proc/PID/stat` (proc(5)).
fn state(pid: i32) -> Result<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the reader has ended")?;
    let (_, rest) = stat.rsplit_once(") ").context("/proc/PID/stat has no state")?;
    rest.chars().next().context("/proc/PID/stat has no state")
}

/// Reads forever without the page cache, because such a read waits without reacting to signals.
pub(crate) fn read_direct() -> Result<()> {
    let mut open = OpenOptions::new();
    open.read(true).custom_flags(OFlags::DIRECT.bits().cast_signed());
    let mut disk = open.open(DISK).with_context(|| DISK.to_owned())?;
    // The kernel requires a buffer at a multiple of a sector.
    let block = usize::try_from(BLOCK)?;
    let mut memory = vec![0; 2 * block];
    let skip = memory.as_ptr().align_offset(block);
    loop {
        disk.read_exact(&mut memory[skip..skip + block]).context("cannot read from the disk")?;
    }
}
