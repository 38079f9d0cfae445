//! Packs: a whole site in one file, which takes over the work that a server would do at the start.
//!
//! A pack is an [`Index`] with its bodies. It does not depend on the time of its creation, on
//! owners or on the order of files, so equal names and bytes make an equal file. Numbers are little
//! endian. docs/static-server-pack.md describes the format.
//!
//! | part | bytes | content |
//! | --- | --- | --- |
//! | header | [`layout::HEADER`] | magic, version, lengths, counts, SHA-256 of header and index |
//! | blobs | 48 each | where a body is, its length, its SHA-256 |
//! | resources | 16 each | status, variants, time |
//! | variants | 32 each | coding, header block, entity tag, blob |
//! | entries | 16 each | path, kind of answer |
//! | error pages | 16 each | folder, resource |
//! | texts | | paths and header blocks, then `_headers`, then `_redirects` |
//! | small bodies | | one after another |
//! | large bodies | | each at a multiple of 4096, to the end of the file |
//!
//! | module | content | touches |
//! | --- | --- | --- |
//! | [`layout`] | records ↔ bytes | nothing |
//! | [`read`] | bytes → [`Index`], everything bounded | nothing |
//! | [`write`] | [`Index`] → bytes | nothing |
//! | [`open`] | file → [`Index`] that can be served; verification of bodies | the pack |
//! | [`compress`] | bytes → coded bytes, for the programs that make packs | nothing |
//! | [`packer`] | executes the second program, which has the compressors | the process |

pub mod compress;
pub mod layout;
pub mod open;
pub mod packer;
pub mod read;
pub mod write;

#[cfg(test)]
mod tests;

#[expect(unused_imports, reason = "for the documentation")]
use crate::index::Index;
