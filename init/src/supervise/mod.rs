//! Keeps containerd and kubelet running, and takes the node down in order.
//!
//! [`state`] decides, with [`up`] and [`down`]: a pure state machine that tests walk through
//! completely. [`runtime`] acts: one poll loop, with [`inputs`] (events from outside), [`membership`]
//! (kubelet's arguments and files), [`process`] (the services' processes) and [`hands`] (signals,
//! helpers, reaping).

pub mod cure;
pub mod down;
pub mod event;
pub mod facts;
mod hands;
pub mod hooks;
pub mod host;
mod inputs;
mod late;
mod member;
mod membership;
pub mod notify;
pub mod probe;
mod process;
mod requests;
pub mod runtime;
pub mod service;
pub mod state;
pub mod up;

#[cfg(test)]
mod tests;
