//! The work of a pod with a raw block volume.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileTypeExt as _;

use anyhow::{Context, Result, ensure};

/// The content that the pod leaves at the device's start.
const CONTENT: &[u8] = b"written to a raw block volume\n";

/// The file whose content kubelet shows in the container's status.
const MESSAGE: &str = "/dev/termination-log";

/// Writes to the device, unless an earlier pod has written to it, and says which it was, and the
/// device's size.
pub(crate) fn run(device: &str) -> Result<()> {
    let (found, bytes) = exchange(device).with_context(|| format!("cannot use {device}"))?;
    let action = if found { "found" } else { "wrote" };
    let text = format!("{action} the content of a device of {} MiB\n", bytes >> 20);
    fs::write(MESSAGE, text).with_context(|| format!("cannot write {MESSAGE}"))
}

/// Returns true if the device had the content, and the device's size.
fn exchange(device: &str) -> Result<(bool, u64)> {
    ensure!(fs::metadata(device)?.file_type().is_block_device(), "not a block device");
    let mut file = File::options().read(true).write(true).open(device)?;
    let mut start = vec![0; CONTENT.len()];
    file.read_exact(&mut start)?;
    let found = start == CONTENT;
    if !found {
        file.rewind()?;
        file.write_all(CONTENT)?;
        file.sync_all()?;
    }
    Ok((found, file.seek(SeekFrom::End(0))?))
}
