//! What a static pod's manifest can say to the node, beside what it says to kubelet.

/// Annotation of a static pod: what must be there before kubelet is given the pod.
pub const AFTER: &str = "kiln.local/after";

/// The one value of [`AFTER`]: a default route, of IPv4 or IPv6.
///
/// For pods that can do nothing without a network. Those that the network needs start sooner.
pub const NETWORK: &str = "network";
