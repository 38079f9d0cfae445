//! Websites from git for a cluster.
//!
//! A `StaticSite` names a git repository and the address of a website.
//! `docs/decisions/0015-pages-three-roles-in-one-program.md` describes the roles that share this
//! crate, and `docs/architecture.md` lists its rooms.

pub mod api;
pub mod archive;
pub mod board;
pub mod cluster;
pub mod digest;
pub mod git;
pub mod guard;
pub mod key;
pub mod leader;
pub mod operator;
pub mod options;
pub mod ownership;
pub mod previews;
pub mod publish;
pub mod queue;
pub mod replica;
pub mod rights;
pub mod routing;
pub mod serve;
pub mod syncer;
pub mod table;
pub mod verbs;
pub mod webhook;
