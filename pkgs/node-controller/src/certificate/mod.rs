//! The decision on a kubelet's request for a serving certificate, without I/O.

pub mod csr;
pub mod refusal;
pub mod rules;
