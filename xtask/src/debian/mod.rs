//! Debian packages as a source: names are resolved by `update` alone, files are unpacked by a build.

pub mod apt;
pub mod deb;
mod index;
