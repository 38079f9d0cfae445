//! The controller of a cluster's Kiln nodes: an ordinary Kubernetes program, in a pod of the cluster.
//!
//! Each reconciler is a room with a pure core, which decides without I/O, and a thin shell that talks
//! to the API server:
//!
//! | reconciler | task |
//! | --- | --- |
//! | [`serving`] | approves the requests of kubelets for serving certificates |
//!
//! All run in one thread. They share the watch of the Nodes, a bounded queue with back-off, and
//! the state that the operations port shows.
//! Running twice does no harm: a decision is written with the version of the object that it was
//! made for, so the second writer gets a conflict, reads again, and finds nothing to do. There is
//! therefore no leader election.

pub mod certificate;
pub mod cluster;
pub mod context;
pub mod node;
pub mod options;
pub mod queue;
pub mod serving;
pub mod status;
