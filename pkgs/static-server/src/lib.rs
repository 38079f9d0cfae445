//! A web server for immutable content.
//!
//! The folder is read once, and an index of ready answers (header block and body) is made before
//! the port is opened. A request is then a lookup in that index and one write; no path of a client
//! ever reaches the file system.
//!
//! | module | what | touches |
//! | --- | --- | --- |
//! | [`options`] | command line and environment → [`options::Options`] | nothing |
//! | [`site`] | folder → [`site::Site`], the index | files, at start only |
//! | [`request`] | bytes → [`request::Head`] | nothing |
//! | [`answer`] | head + site → answer | nothing |
//! | [`connection`] | one client's protocol state; time is an argument | nothing |
//! | [`server`] | sockets, one epoll loop | the network |
//!
//! What it follows: RFC 9110 (semantics), RFC 9112 (HTTP/1.1), RFC 3986 (URI).
//! What it leaves to others: TLS, HTTP/2 and later, uploads.

pub mod answer;
mod client;
pub mod connection;
pub mod date;
pub mod folder;
pub mod index;
pub mod media;
pub mod options;
pub mod pack;
pub mod request;
pub mod resource;
pub mod rules;
pub mod server;
pub mod site;
pub mod status;
