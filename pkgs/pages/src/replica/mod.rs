//! A copy of the syncer's sites: its table and the packs of the revisions in force.
//!
//! It starts from the disk, so a server that restarts while the syncer is away serves what it had.
//!
//! | module | content | touches |
//! | --- | --- | --- |
//! | [`plan`] | which revisions are missing, and which table can be served | nothing |
//! | [`store`] | table and packs | the disk |
//! | [`client`] | requests to the syncer | the network |
//! | [`copy`] | all revisions, for a second syncer | the network, the disk |
//! | [`follow`] | the loop that connects them | |

pub mod client;
pub mod copy;
pub mod follow;
pub mod plan;
pub mod store;
