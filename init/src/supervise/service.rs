//! The services that PID 1 keeps running.

use std::fmt;

/// The services of the host, in start order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// Runs containers. kubelet needs it.
    Containerd,
    /// Runs pods.
    Kubelet,
}

/// All services, by [`Service::index`].
pub const SERVICES: [Service; 2] = [Service::Containerd, Service::Kubelet];

impl Service {
    /// Returns the service's index in arrays.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Containerd => 0,
            Self::Kubelet => 1,
        }
    }

    /// Returns the name on the console and of the log file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
