//! The builder: turns `build.toml` into one EFI file, boots it, tests it.

mod cache;
mod digest;
mod fetch;
mod lock;
mod process;
mod progress;
mod tree;

fn main() {}
