//! The parts that Kiln's programs for clusters share.
//!
//! These programs are pods of a Deployment that talk to the API server in an async runtime.
//! `kiln-server` has the parts of programs without one.

pub mod fault;
pub mod operations;
