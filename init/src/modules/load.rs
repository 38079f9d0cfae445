//! The kernel's interface for modules: loading, removing, locking.

use std::ffi::CString;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::io::Errno;

/// The kernel's lock. Once it is 1, modules cannot be loaded or removed until the next boot
/// (`Documentation/admin-guide/sysctl/kernel.rst`).
const LOCK: &str = "/proc/sys/kernel/modules_disabled";

/// Loads a module file. A module that is loaded already is not an error.
pub fn insert(file: &Path, options: &str) -> Result<(), Errno> {
    let open = File::open(file)
        .map_err(|error| error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))?;
    insert_open(&open, options)
}

/// Like [`insert`], for an open file.
pub fn insert_open(file: &File, options: &str) -> Result<(), Errno> {
    let options = CString::new(options).map_err(|_| Errno::INVAL)?;
    match rustix::system::finit_module(file, &options, 0) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Like [`insert`], with an error that names the file.
pub fn load_file(file: &Path, options: &str) -> Result<()> {
    insert(file, options).with_context(|| format!("cannot load module {}", file.display()))
}

/// Removes a module, which must be unused.
pub fn remove(name: &str) -> Result<(), Errno> {
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    rustix::system::delete_module(&name, libc::O_NONBLOCK)
}

/// The kernel's folder of modules (Documentation/ABI/testing/sysfs-module).
const SYSFS: &str = "/sys/module";

/// True if a module is loaded and has started. If it is still starting, loading it again waits in
/// the kernel, as with kmod's modprobe.
#[must_use]
pub fn is_loaded(name: &str) -> bool {
    is_live(Path::new(SYSFS), name)
}

fn is_live(sysfs: &Path, name: &str) -> bool {
    let state = fs::read_to_string(sysfs.join(name).join("initstate"));
    state.is_ok_and(|state| state.trim() == "live")
}

/// True if the kernel has begun to load a module. The module may hang while it starts.
#[must_use]
pub fn is_begun(name: &str) -> bool {
    Path::new(SYSFS).join(name).join("initstate").exists()
}

/// True if a loaded module has no users.
#[must_use]
pub fn is_unused(name: &str) -> bool {
    let count = Path::new(SYSFS).join(name).join("refcnt");
    fs::read_to_string(count).is_ok_and(|count| count.trim() == "0")
}

/// Locks modules until the next boot.
pub fn lock() -> Result<()> {
    fs::write(LOCK, "1\n").with_context(|| format!("cannot write {LOCK}"))
}

/// True if modules are locked.
#[must_use]
pub fn is_locked() -> bool {
    fs::read_to_string(LOCK).is_ok_and(|value| value.trim() == "1")
}

/// Returns the message about a request for a module after the lock.
#[must_use]
pub fn locked_message(module: &str) -> String {
    format!("module {module} was requested but not loaded: modules are locked (kiln.lock-modules)")
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
        // A built-in module has a folder for its parameters but no state.
        std::fs::create_dir(sysfs.path().join("d")).unwrap();
        let live = ["a", "b", "c", "d", "e"].map(|name| is_live(sysfs.path(), name));
        assert_eq!(live, [true, false, false, false, false]);
    }
}
