//! The revisions of the steps' own code, all in one place.
//!
//! A step's digest holds its revision. Raise it when the step's code makes another result
//! from equal inputs ([decision 8](../../docs/decisions/0008-cache-digests-and-revisions.md)).

/// Downloading the modules of Go programs.
pub const GO_MODULES: &str = "go modules 1";
/// Building Go programs.
pub const GO: &str = "go 2";
/// Downloading the crates that Cargo.lock names.
pub const CRATES: &str = "crates 2";
/// Building a crate.
pub const CRATE: &str = "crate 2";
/// Linking a crate with musl.
pub const MUSL: &str = "musl 3";
/// Unpacking Debian packages.
pub const DEB: &str = "unpack 1";
/// Taking or unpacking a file from elsewhere.
pub const URL: &str = "url 2";
/// Choosing and indexing the kernel's modules.
pub const KERNEL: &str = "kernel 5";
/// The file system for new data partitions.
pub const TEMPLATE: &str = "template 2";
/// The host's root.
pub const ROOT: &str = "root 6";
/// The pods' file system.
pub const PODS: &str = "pods 3";
/// The initramfs archive.
pub const ARCHIVE: &str = "archive 2";
/// The EFI file.
pub const UKI: &str = "uki 3";
