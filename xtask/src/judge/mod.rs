//! Programs of other projects judge the finished file.
//!
//! The writers follow the specifications and are tested against readers of this project; only a
//! foreign program finds that both are wrong in the same way.

pub mod hardening;
pub mod uki;
