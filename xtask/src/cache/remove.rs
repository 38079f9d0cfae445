//! Removes trees with read-only folders, because Go makes its module cache read-only.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};

/// Removes a file, a link or a whole folder. A missing path is not an error.
pub(super) fn tree(path: &Path) -> Result<()> {
    let context = || format!("cannot remove {}", path.display());
    let meta = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found.with_context(context)?,
    };
    if !meta.is_dir() {
        return fs::remove_file(path).with_context(context);
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            open_up(path).with_context(context)?;
            fs::remove_dir_all(path).with_context(context)
        }
        removed => removed.with_context(context),
    }
}

/// Gives the owner all rights to a folder and the folders below; does not follow links.
fn open_up(dir: &Path) -> std::io::Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}
