//! A folder as content, read into memory once and checked for changes from time to time.
//!
//! | module | content |
//! | --- | --- |
//! | [`scan`] | every file's bytes → files for [`crate::index::assemble`] |
//! | [`shelf`] | the memory for bodies, which the threads of a scan share |
//! | [`walk`] | names in the folder, with links followed inside it only |
//! | [`crew`] | the threads of a walk |

pub mod crew;
pub mod scan;
pub mod shelf;
pub mod walk;
