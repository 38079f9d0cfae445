//! containerd's files: registries and certificate authorities.
//!
//! [`authority`] and [`registry`] decide, both pure; [`apply`] writes. containerd reads the files of
//! registries at each pull, so that a change needs no restart.

pub mod apply;
pub mod authority;
pub mod registry;
