//! A folder as content, read into memory once and checked for changes from time to time.
//!
//! | module | content |
//! | --- | --- |
//! | [`walk`] | names in the folder, with links followed inside it only |
//! | [`scan`] | every file's bytes → items for [`crate::index::assemble`] |

pub mod scan;
pub mod walk;
