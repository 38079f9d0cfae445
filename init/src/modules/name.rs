//! Names of modules.

/// Returns a module's name in the kernel's form, with `_` for `-`.
#[must_use]
pub fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// Returns the name of the module in a file such as `kernel/fs/erofs/erofs.ko`.
#[must_use]
pub fn name_of(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    canonical(base.split(".ko").next().unwrap_or(base))
}
