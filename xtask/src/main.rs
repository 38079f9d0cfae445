//! The builder: turns `build.toml` into one EFI file, boots it, tests it.

mod process;
mod tree;

fn main() {}
