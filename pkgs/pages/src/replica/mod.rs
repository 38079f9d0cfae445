//! A copy of the leader's sites: its table and the packs of the revisions in force.
//!
//! A server and a syncer that is not the leader have one. It starts from the disk, so a reader that
//! restarts while the leader is away serves what it had.
//!
//! | module | content | touches |
//! | --- | --- | --- |
//! | [`plan`] | which revisions are missing, and which table can be served | nothing |
//! | [`store`] | table and packs | the disk |
//! | [`client`] | requests to the leader | the network |
//! | [`follow`] | the loop that connects them | |

pub mod client;
pub mod follow;
pub mod plan;
pub mod store;
