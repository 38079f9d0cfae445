//! Programs of other projects judge the finished file.
//!
//! The writers follow the specifications and are tested against this project's own readers; only
//! an independent program can find an error that both share.

pub mod hardening;
pub mod uki;
