//! Names of modules.

/// A module's name as the kernel has it: `-` and `_` are the same.
#[must_use]
pub fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// The name of a module from its file, such as `kernel/fs/erofs/erofs.ko`.
#[must_use]
pub fn name_of(file: &str) -> String {
    let base = file.rsplit('/').next().unwrap_or(file);
    canonical(base.split(".ko").next().unwrap_or(base))
}
