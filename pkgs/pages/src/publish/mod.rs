//! A commit's tree → a revision of a site.
//!
//! | module | content | touches |
//! | --- | --- | --- |
//! | [`tree`] | a tree of any source, as publishing reads it | nothing |
//! | [`walk`] | tree → the files of a site; links are resolved | nothing |
//! | [`note`] | the things that a tenant should know about a revision | nothing |
//! | [`rules`] | `_headers` and `_redirects` without their invalid lines | nothing |
//! | [`pack`] | files → pack | scratch |
//! | [`reuse`] | compressed forms of an earlier pack | the pack |
//! | [`manifest`] | the revisions of one site | nothing |
//! | [`store`] | packs and manifests on disk, garbage collection | the disk |

pub mod manifest;
pub mod note;
pub mod pack;
pub mod reuse;
pub mod rules;
pub mod store;
pub mod tree;
pub mod walk;
