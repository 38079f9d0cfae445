//! A web server for immutable content.
//!
//! The content is read once, and an index of ready answers (header block and body) is made before
//! the port is opened. A request is then a lookup in that index and one write; no path of a client
//! ever reaches the file system. When the content changes, a new index is made beside the old one
//! and takes its place.
//!
//! | module | what | touches |
//! | --- | --- | --- |
//! | [`options`] | command line, environment, file → [`options::Options`] | nothing |
//! | [`folder`], [`source`] | folder → items | files |
//! | [`rules`] | `_headers`, `_redirects` → rules | nothing |
//! | [`index`] | items and rules → [`index::Index`] | nothing |
//! | [`request`] | bytes → [`request::Head`] | nothing |
//! | [`semantics`] | codings, conditions, ranges | nothing |
//! | [`answer`] | head + content → answer | nothing |
//! | [`connection`] | one client's protocol state; time is an argument | nothing |
//! | [`worker`] | sockets, one epoll loop | the network |
//! | [`follow`] | looks at the content, makes new indexes | files |
//! | [`server`] | starts and ends threads | signals |
//!
//! What it follows: RFC 9110 (semantics), RFC 9111 (caching), RFC 9112 (HTTP/1.1), RFC 3986 (URI).
//! What it leaves to others: TLS, HTTP/2 and later, uploads, compression while serving.

pub mod answer;
mod client;
pub mod connection;
pub mod content;
pub mod date;
pub mod folder;
pub mod follow;
pub mod index;
pub mod listen;
pub mod machine;
pub mod media;
mod metrics;
pub mod options;
pub mod pack;
pub mod request;
pub mod rules;
pub mod semantics;
pub mod server;
pub mod shared;
pub mod source;
pub mod status;
pub mod worker;
