//! One commit of a git server → objects on disk, within limits.
//!
//! Uses gitoxide's crates for protocol and packs. The transports are our own, so that every
//! connection passes [`crate::guard`], secrets stay in memory, no other program runs, and no
//! configuration of git on the machine has an effect.
//!
//! | module | content | touches |
//! | --- | --- | --- |
//! | [`limits`] | limits, and the ways in which a fetch fails | nothing |
//! | [`meter`] | counts bytes and time of one fetch, and remembers the first cause of its end | nothing |
//! | [`login`] | the login of a site | nothing |
//! | [`known`] | the host keys of SSH servers | nothing |
//! | [`http`] | gitoxide's HTTP over ureq | the network |
//! | [`ssh`] | gitoxide's transport for processes over russh | the network |
//! | [`lfs`] | the objects of Git LFS in place of their pointers | the network, scratch |
//! | [`remote`] | handshake, list of references, pack | the network, scratch |
//! | [`snapshot`] | reading the objects of a fetched commit | scratch |

pub mod http;
pub mod known;
pub mod lfs;
pub mod limits;
pub mod login;
pub mod meter;
pub mod remote;
pub mod snapshot;
pub mod ssh;
