//! Child processes and threads, each with a deadline.

pub mod deadline;
pub mod helper;
pub mod kill;
pub mod spawn;
