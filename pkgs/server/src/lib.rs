//! The parts that Kiln's network servers share.
//!
//! A server here is a program with worker threads that own non-blocking sockets.
//! The gateway and the static server have different event loops and connections; this crate has the
//! parts that are the same in both.
//!
//! | module | content | touches |
//! | --- | --- | --- |
//! | [`listen`] | listening sockets: TCP, Unix, inherited | the network |
//! | [`limits`] | processors and descriptors that the machine allows | limits of the process |
//! | [`threads`] | worker threads, and waking them | threads |
//! | [`access`] | the access log | standard output |
//! | [`http`] | HTTP/1 lines, fields and bodies | nothing |
//! | [`ops`] | answers of the operations port, metrics | nothing |
//!
//! Signals are in `kiln-daemon`, because every pod has them.

pub mod access;
pub mod http;
pub mod limits;
pub mod listen;
pub mod ops;
pub mod threads;
