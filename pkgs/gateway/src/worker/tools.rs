//! The resources that a worker lends to the connection that it drives.

use std::sync::Arc;

use rustix::fd::OwnedFd;

use super::pipes::Pipes;
use crate::state::Demand;

/// Resources that all connections of a worker share, one connection at a time.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) epoll: OwnedFd,
    /// A buffer for reads. Its content is not needed after the turn.
    pub(super) scratch: Box<[u8]>,
    pub(super) pipes: Pipes,
    /// Reads or splices that the connection may still do before it is other connections' turn.
    pub(super) budget: u32,
    /// Milliseconds since the start of the process, as of this round of events.
    pub(super) now: u64,
    /// True once the gateway is shutting down: every response is the last on its connection.
    pub(super) draining: bool,
    /// The names that clients wait for.
    pub(super) demand: Arc<Demand>,
}
