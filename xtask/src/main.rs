//! The builder: turns `build.toml` into one EFI file, boots it, tests it.

mod cache;
mod digest;
mod lock;
mod process;
mod progress;
mod tree;

fn main() {}
