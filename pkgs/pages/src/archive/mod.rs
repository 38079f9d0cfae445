//! An archive of a stranger → a tree of files, within limits.
//!
//! Nothing is written under a name from the archive: contents go to a file without a name, and the
//! tree is in memory. So no path can leave a folder, and nothing is left behind, whatever happens.
//! Anything that an archive should not have, such as a link, refuses it as a whole.
//!
//! | module | content |
//! | --- | --- |
//! | [`limits`] | limits, and the reasons of a refusal |
//! | [`meter`] | a reader that ends at the limits of bytes, ratio and time |
//! | [`tree`] | the tree: checked paths, and contents in a file without a name |
//! | [`tarball`] | tar, plain or compressed |
//! | [`zipped`] | zip |

pub mod limits;
mod meter;
mod tarball;
pub mod tree;
mod zipped;

use std::fs::File;
use std::io::{self, Read, Seek as _};
use std::path::Path;

use limits::{Limits, Refusal};
use meter::Meter;
use tree::Tree;

/// The bytes that tell the format.
const MAGIC_BYTES: usize = 4;

/// The window of zstd in bits, as `zstd -19` uses it at most. A larger one needs as much memory.
const WINDOW_BITS_MAX: u32 = 23;

/// Reads an archive from an open file: tar, tar with gzip or zstd, or zip, told by its first bytes.
///
/// `scratch` is a folder for the contents, and `is_late` becomes true when the time is over.
pub fn read(
    file: &mut File,
    scratch: &Path,
    limits: &Limits,
    is_late: &dyn Fn() -> bool,
) -> Result<Tree, Refusal> {
    let bytes = file.seek(io::SeekFrom::End(0)).map_err(Refusal::Disk)?;
    file.rewind().map_err(Refusal::Disk)?;
    let mut magic = [0; MAGIC_BYTES];
    let count = fill(&*file, &mut magic).map_err(Refusal::Disk)?;
    file.rewind().map_err(Refusal::Disk)?;
    let meter = Meter::new(limits, bytes, is_late);
    let mut tree = Tree::new(limits, scratch).map_err(Refusal::Disk)?;
    let result = match &magic[..count] {
        [0x1f, 0x8b, ..] => {
            tarball::read(flate2::read::MultiGzDecoder::new(&*file), &meter, &mut tree)
        }
        [0x28, 0xb5, 0x2f, 0xfd] => zstd(file, &meter, &mut tree),
        [b'P', b'K', ..] => zipped::read(file, &meter, &mut tree),
        _ => tarball::read(&*file, &meter, &mut tree),
    };
    // The meter knows better why a decoder failed.
    result.map_err(|refusal| meter.refusal().unwrap_or(refusal))?;
    Ok(tree)
}

fn zstd(file: &File, meter: &Meter<'_>, tree: &mut Tree) -> Result<(), Refusal> {
    let mut decoder = zstd::stream::read::Decoder::new(file).map_err(Refusal::Disk)?;
    decoder.window_log_max(WINDOW_BITS_MAX).map_err(Refusal::Disk)?;
    tarball::read(decoder, meter, tree)
}

/// Reads until a buffer is full or the input ends.
fn fill(mut from: impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match from.read(&mut buffer[count..])? {
            0 => break,
            more => count += more,
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests;
