//! Fetches from real git servers: `git http-backend` behind nginx, and sshd.
//!
//! `cargo xtask test` starts them and describes them in the file that `KILN_PAGES_GIT` names.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod http;
mod large;
mod server;
mod ssh;
