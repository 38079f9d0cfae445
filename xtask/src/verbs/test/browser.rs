//! The locked browser, as a script that tests can start.
//!
//! Chromium looks for its resources next to `/proc/self/exe`, which is the loader of its closure, and
//! starts itself again for each page. So the loader is copied to a folder with the resources, and the
//! script is also the program for pages.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::build::Builder;
use crate::config::BROWSER;
use crate::host::HostTool;
use crate::plan::staged;

/// The program and its resources in the package.
const PROGRAM: &str = "chromium-headless-shell";
const FOLDER: &str = "usr/lib/chromium";

/// Writes the script into a folder, and returns its path.
pub(super) fn script(builder: &Builder, folder: &Path) -> Result<PathBuf> {
    let step = staged(BROWSER);
    let root = builder.make(&[&step])?[&step].path().to_owned();
    let tool = HostTool::new(&root, PROGRAM);
    for entry in fs::read_dir(root.join(FOLDER)).context("cannot read the browser's folder")? {
        let entry = entry.context("cannot read the browser's folder")?;
        symlink(entry.path(), folder.join(entry.file_name())).context("cannot link a resource")?;
    }
    let path = folder.join("browser");
    let text = tool.script_beside(folder, &root.join(FOLDER).join(PROGRAM))?;
    let text =
        text.replace("\"$@\"", &format!("--browser-subprocess-path={} \"$@\"", path.display()));
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        .context("cannot make a script")?;
    Ok(path)
}
