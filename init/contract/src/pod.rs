//! Settings in a static pod's manifest that are meant for the node and not for kubelet.

/// An annotation of a static pod: the condition for giving the pod to kubelet.
pub const AFTER: &str = "kiln.local/after";

/// The only value of [`AFTER`]: a default route of IPv4 or IPv6.
///
/// It is for pods that are useless without a network. Pods that bring the network up start at once.
pub const NETWORK: &str = "network";
