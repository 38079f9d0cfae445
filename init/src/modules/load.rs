//! The kernel's side of modules: into it, out of it, and the lock.

use std::ffi::CString;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::io::Errno;

/// Once 1, no module comes or goes until the next boot (`Documentation/admin-guide/sysctl/kernel.rst`).
const LOCK: &str = "/proc/sys/kernel/modules_disabled";

/// Loads one module file; one that is loaded already is fine.
pub fn insert(file: &Path, options: &str) -> Result<(), Errno> {
    let open = File::open(file)
        .map_err(|error| error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))?;
    insert_open(&open, options)
}

/// As [`insert`], of a file that is open.
pub fn insert_open(file: &File, options: &str) -> Result<(), Errno> {
    let options = CString::new(options).map_err(|_| Errno::INVAL)?;
    match rustix::system::finit_module(file, &options, 0) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// As [`insert`], for callers that only report.
pub fn load_file(file: &Path, options: &str) -> Result<()> {
    insert(file, options).with_context(|| format!("cannot load module {}", file.display()))
}

/// Removes one module; it must not be in use.
pub fn remove(name: &str) -> Result<(), Errno> {
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    rustix::system::delete_module(&name, libc::O_NONBLOCK)
}

/// Where the kernel shows the modules that it knows (Documentation/ABI/testing/sysfs-module).
const SYSFS: &str = "/sys/module";

/// Whether a module is loaded and has started. Who asks for one that is starting waits for it in
/// the kernel, as kmod's modprobe does.
#[must_use]
pub fn is_loaded(name: &str) -> bool {
    is_live(Path::new(SYSFS), name)
}

fn is_live(sysfs: &Path, name: &str) -> bool {
    let state = fs::read_to_string(sysfs.join(name).join("initstate"));
    state.is_ok_and(|state| state.trim() == "live")
}

/// Whether the kernel has begun to load a module: it may hang in its start.
#[must_use]
pub fn is_begun(name: &str) -> bool {
    Path::new(SYSFS).join(name).join("initstate").exists()
}

/// Whether a loaded module has no users.
#[must_use]
pub fn is_unused(name: &str) -> bool {
    let count = Path::new(SYSFS).join(name).join("refcnt");
    fs::read_to_string(count).is_ok_and(|count| count.trim() == "0")
}

/// Locks modules until the next boot.
pub fn lock() -> Result<()> {
    fs::write(LOCK, "1\n").with_context(|| format!("cannot write {LOCK}"))
}

/// Whether modules are locked.
#[must_use]
pub fn is_locked() -> bool {
    fs::read_to_string(LOCK).is_ok_and(|value| value.trim() == "1")
}

/// The line for a module that was asked for too late.
#[must_use]
pub fn locked_message(module: &str) -> String {
    format!("module {module} was asked for and not loaded: modules are locked (kiln.lock-modules)")
}

#[cfg(test)]
mod tests {
    use super::is_live;

    #[test]
    fn a_module_that_is_starting_is_not_loaded_yet() {
        let sysfs = tempfile::tempdir().unwrap();
        for (name, state) in [("a", "live\n"), ("b", "coming\n"), ("c", "going\n")] {
            std::fs::create_dir(sysfs.path().join(name)).unwrap();
            std::fs::write(sysfs.path().join(name).join("initstate"), state).unwrap();
        }
        // A part of the kernel has a folder for its parameters and no state.
        std::fs::create_dir(sysfs.path().join("d")).unwrap();
        let live = ["a", "b", "c", "d", "e"].map(|name| is_live(sysfs.path(), name));
        assert_eq!(live, [true, false, false, false, false]);
    }
}
