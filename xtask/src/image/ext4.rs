//! The ext4 file system for new data partitions, made by `mke2fs`.
//!
//! Format: the kernel's `Documentation/filesystems/ext4`, and [`template`] for the file in the root.
//! The features are listed, because the defaults change with mke2fs.conf: `meta_bg` instead of
//! `resize_inode` lets the file system grow to any size, and `metadata_csum_seed` lets it get a new
//! UUID while it is mounted.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use kiln_contract::template::{self, BLOCK, BYTES, JOURNAL_MIB, UUID};

use crate::host::HostTool;

/// The features, without any default.
const FEATURES: &str = "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,meta_bg,\
sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum,metadata_csum_seed";

/// The seed of the hashes of file names. It needs to be secret only against local attackers who
/// could make a folder slow.
const HASH_SEED: &str = "5d3f5f0e-63b8-4a8c-9d75-5a0f0b1e2c44";

/// Makes a file system and returns the file for the root.
///
/// `conf` is mke2fs.conf, without which mke2fs complains; `date` is in seconds since 1970.
pub fn make(mke2fs: &HostTool, conf: &Path, date: u32, scratch: &Path) -> Result<Vec<u8>> {
    let image = scratch.join("ext4.img");
    let file = File::create_new(&image).context("cannot create a file for ext4")?;
    file.set_len(BYTES)?;
    let command = mke2fs.command()?.args(arguments()).arg(&image);
    command
        .env("MKE2FS_CONFIG", conf)
        .env("E2FSPROGS_FAKE_TIME", date.to_string())
        .output()
        .context("cannot make the file system for data partitions")?;
    let template = encode(File::open(&image)?)?;
    fs::remove_file(&image)?;
    Ok(template)
}

/// Returns mke2fs' arguments, except for the file's name.
///
/// Errors make the mounted file system read-only. One percent is reserved, which keeps ext4 quick
/// when it is nearly full.
fn arguments() -> Vec<String> {
    let extended = format!(
        "lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0,hash_seed={HASH_SEED}"
    );
    let options = [
        ("-t", "ext4".to_owned()),
        ("-b", BLOCK.to_string()),
        ("-I", "256".to_owned()),
        ("-i", "16384".to_owned()),
        ("-m", "1".to_owned()),
        ("-e", "remount-ro".to_owned()),
        ("-J", format!("size={JOURNAL_MIB}")),
        ("-U", uuid()),
        ("-E", extended),
        ("-O", FEATURES.to_owned()),
    ];
    let options = options.into_iter().flat_map(|(option, value)| [option.to_owned(), value]);
    ["-q", "-F"].map(str::to_owned).into_iter().chain(options).collect()
}

fn uuid() -> String {
    let digits = format!("{:032x}", u128::from_be_bytes(UUID));
    let part = |from: usize, to: usize| &digits[from..to];
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

fn encode(mut image: impl Read) -> Result<Vec<u8>> {
    let mut out = template::begin(BYTES);
    let mut block = [0; BLOCK];
    let mut at = 0;
    loop {
        match image.read_exact(&mut block) {
            Ok(()) => template::push(&mut out, at, &block),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error).context("cannot read the file system"),
        }
        at += BLOCK as u64;
    }
    ensure!(at == BYTES, "mke2fs changed the size of its file");
    let whole = template::parse(&out).is_some_and(|template| !template.extents.is_empty());
    ensure!(whole, "mke2fs wrote no file system");
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_uuid_has_its_usual_form() {
        assert_eq!(uuid(), "0c5b8e57-1f6a-4d0b-9a53-4e0e5c617d90");
    }

    #[test]
    fn a_file_of_zeros_or_of_another_size_is_no_file_system() {
        assert!(encode(io::repeat(0).take(BYTES)).is_err());
        assert!(encode(io::repeat(1).take(BYTES - 1)).is_err());
    }
}
