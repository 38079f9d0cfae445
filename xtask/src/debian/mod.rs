//! Debian packages as a source: only `update` resolves names, and a build unpacks files.

pub mod apt;
pub mod deb;
mod index;
