//! A small FAT volume as a whole disk without a partition table, such as a `NoCloud` disk.
//!
//! `fatfs` has no clock in this build (its feature `chrono` is off), so equal files give equal disks.

use std::io::{Cursor, Write};

use anyhow::{Context, Result, ensure};
use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};

const SECTOR_BYTES: u16 = 512;

/// The volume's length: 2 MiB, which FAT12 fits, and twice what the largest credential needs.
const VOLUME_BYTES: usize = 2 * 1024 * 1024;

/// Serial number of the volume; a fixed one, because the disk must not depend on the time.
const VOLUME_ID: u32 = 0x4e4c_494b;

/// The length of a label on the disk, where blanks fill it.
const LABEL_BYTES: usize = 11;

/// Returns a volume with this label and these files in its root.
pub fn volume(label: &str, files: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let context = || format!("cannot make a FAT volume with the label {label}");
    ensure!(
        (1..=LABEL_BYTES).contains(&label.len()) && label.is_ascii(),
        "cannot label a FAT volume {label:?}: a label has 1 to {LABEL_BYTES} ASCII characters"
    );
    let mut padded = [b' '; LABEL_BYTES];
    padded[..label.len()].copy_from_slice(label.as_bytes());
    let options = FormatVolumeOptions::new()
        .bytes_per_sector(SECTOR_BYTES)
        .volume_id(VOLUME_ID)
        .volume_label(padded);
    let mut disk = Cursor::new(vec![0; VOLUME_BYTES]);
    fatfs::format_volume(&mut disk, options).with_context(context)?;
    let volume = FileSystem::new(&mut disk, FsOptions::new()).with_context(context)?;
    for (name, bytes) in files {
        let context = || format!("cannot write {name} into a FAT volume of {VOLUME_BYTES} bytes");
        let mut file = volume.root_dir().create_file(name).with_context(context)?;
        file.write_all(bytes).with_context(context)?;
        file.flush().with_context(context)?;
    }
    volume.unmount().with_context(context)?;
    Ok(disk.into_inner())
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read};

    use super::*;

    #[test]
    fn label_and_files_are_read_back() {
        let long = vec![7; 1024 * 1024];
        let disk =
            volume("CIDATA", &[("meta-data", b"a: b\n"), ("kiln.join.cred", &long)]).unwrap();
        assert_eq!(disk.len(), VOLUME_BYTES);
        let volume = FileSystem::new(Cursor::new(disk), FsOptions::new()).unwrap();
        assert_eq!(volume.volume_label_as_bytes(), b"CIDATA");
        let entry = volume.read_volume_label_from_root_dir_as_bytes().unwrap();
        assert_eq!(entry.as_ref(), Some(b"CIDATA     "));
        let read = |name: &str| {
            let mut bytes = Vec::new();
            volume.root_dir().open_file(name).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(read("meta-data"), b"a: b\n");
        assert!(read("kiln.join.cred") == long);
    }

    #[test]
    fn equal_files_give_equal_disks() {
        let disk = |bytes: &[u8]| volume("CIDATA", &[("user-data", bytes)]).unwrap();
        assert!(disk(b"a") == disk(b"a"));
        assert!(disk(b"a") != disk(b"b"));
    }

    #[test]
    fn a_file_that_does_not_fit_is_an_error() {
        let error = volume("CIDATA", &[("a", &vec![1; VOLUME_BYTES])]).unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot write a into"), "{error:#}");
        assert!(volume("", &[]).is_err() && volume("CIDATA-CIDATA", &[]).is_err());
    }
}
