//! A web server for immutable content.
//!
//! At start it reads the content once and builds an index of complete answers (header block and
//! body), before it opens the port. A request is then a lookup in that index and one write; no path
//! from a client reaches the file system. When the content changes, the server builds a new index
//! next to the old one and swaps them.
//!
//! | module | content | touches |
//! | --- | --- | --- |
//! | [`options`] | command line, environment, file → [`options::Options`] | nothing |
//! | [`folder`], [`docroot`] | folder → items | files |
//! | [`rules`] | `_headers`, `_redirects` → rules | nothing |
//! | [`index`] | items and rules → [`index::Index`] | nothing |
//! | [`request`] | bytes → [`request::Head`] | nothing |
//! | [`semantics`] | codings, conditions, ranges | nothing |
//! | [`answer`] | head + content → answer | nothing |
//! | [`connection`] | one client's protocol state; time is an argument | nothing |
//! | [`worker`] | sockets, one epoll loop | the network |
//! | [`follow`] | checks the content, makes new indexes | files |
//! | [`server`] | starts and stops threads | signals |
//!
//! Implements RFC 9110 (semantics), RFC 9111 (caching), RFC 9112 (HTTP/1.1) and RFC 3986 (URI).
//! TLS, HTTP/2 and later, uploads and compression of answers are left to other programs.

pub mod answer;
mod client;
pub mod connection;
pub mod content;
pub mod date;
pub mod docroot;
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
pub mod status;
pub mod worker;
