//! The builder: turns `build.toml` into one EFI file, boots it, tests it.

mod cache;
mod date;
mod debian;
mod digest;
mod fetch;
mod host;
mod image;
mod lock;
mod process;
mod progress;
mod qemu;
mod tree;

fn main() {}
