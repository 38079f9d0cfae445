//! A folder as content: read once into memory, looked at again from time to time.
//!
//! | module | what |
//! | --- | --- |
//! | [`walk`] | names in the folder, with links followed inside it only |
//! | [`scan`] | every file's bytes → items for [`crate::index::assemble`] |

pub mod scan;
pub mod walk;
