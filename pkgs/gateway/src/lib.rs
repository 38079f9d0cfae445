//! A TCP gateway: it reads the name that a client wants, connects it to that name's backend, and
//! gets out of the way.
//!
//! TLS is routed by the `ClientHello`'s server name and never decrypted; HTTP/1.1 by the Host of
//! every request. Bytes that need not be looked at are spliced from socket to socket.
//!
//! | module | what | touches |
//! | --- | --- | --- |
//! | [`options`] | command line and environment | nothing |
//! | [`config`], [`name`] | text → [`config::Config`], with errors that name their line | nothing |
//! | [`route`] | name, protocol → route | nothing |
//! | [`tls`] | bytes → name and protocols of a `ClientHello`; alerts | nothing |
//! | [`http`] | bytes → where requests and answers end, whom they are for | nothing |
//! | [`proxy`] | the PROXY protocol, both ways | nothing |
//! | [`dns`] | what to ask which server when; time is an argument | nothing |
//! | [`health`] | results of checks → up or down | nothing |
//! | [`lint`] | `check` and `routes` | the file |
//! | [`state`], [`limits`], [`access`] | what threads share | atomics, limits, standard output |
//! | [`worker`] | connections: epoll, splice | the network |
//! | [`serve`] | signals, reload, DNS, checks, operation | the network, files |

pub mod access;
pub mod config;
pub mod dns;
pub mod health;
pub mod http;
pub mod limits;
pub mod lint;
pub mod name;
pub mod net;
pub mod options;
pub mod proxy;
pub mod route;
pub mod serve;
pub mod state;
pub mod tls;
pub mod worker;
