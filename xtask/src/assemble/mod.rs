//! The contents of the root, the archive and the pods' file system: configuration and staged files
//! → trees.

pub mod archive;
pub mod pods;
pub mod root;
