//! A TCP gateway: it reads the name that a client asks for, connects the client to that name's
//! backend, and gets out of the way.
//!
//! TLS is routed by the server name in the `ClientHello` and never decrypted; HTTP/1.1 is routed by
//! the Host of every request. Bytes that need no parsing are spliced from socket to socket.
//!
//! | module | content | touches |
//! | --- | --- | --- |
//! | [`options`] | command line and environment | nothing |
//! | [`config`], [`name`] | text → [`config::Config`], with errors that name their line | nothing |
//! | [`route`] | name, protocol → route | nothing |
//! | [`tls`] | bytes → name and protocols of a `ClientHello`; alerts | nothing |
//! | [`http`] | bytes → ends of requests and responses, and their hosts | nothing |
//! | [`proxy`] | the PROXY protocol, in both directions | nothing |
//! | [`dns`] | queries to name servers; time is an argument | nothing |
//! | [`health`] | results of checks → up or down | nothing |
//! | [`lint`] | the verbs `check` and `routes` | the file |
//! | [`state`], [`limits`], [`access`] | state that threads share, limits, log lines | atomics, limits |
//! | [`net`] | sockets that connect without blocking | the network |
//! | [`worker`] | connections: epoll, splice | the network |
//! | [`serve`] | signals, reload, DNS, checks, operations | the network, files |

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
