//! kubelet's view of the node: its arguments and files, and the cluster that it belongs to.
//!
//! [`join`] and [`kubeconfig`] parse, [`plan`] and [`reserved`] decide, all pure; [`state`] reads and writes what a
//! data partition keeps of a cluster, and [`apply`] writes the planned files.

pub mod apply;
pub mod cluster;
pub mod join;
pub mod klog;
pub mod kubeconfig;
pub mod plan;
pub mod report;
pub mod reserved;
pub mod state;
