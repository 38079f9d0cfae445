//! Output of the services and lines of the kernel, from pipes to bounded files in `/var/log`.
//!
//! ```text
//! containerd, kubelet ─pipe─┐                 ┌─ ring ─┐
//!                           ├─ reader thread ─┤        ├─ writer thread ─ NAME.log, NAME.log.1
//! /dev/kmsg ────────────────┘                 └─ ring ─┘
//! ```
//!
//! Two threads, because a disk may stall for a minute and a pipe must not: the [`reader`] drops
//! and counts what has no room, the [`writer`] is the only one that waits for a disk, and the main
//! loop has no part in it. PID 1's own lines come back to it through the kernel's log. [`line`]
//! has the format, [`file`](mod@file) the rotation; the applet `journalctl` reads both.

pub mod file;
pub mod handle;
pub mod kernel;
pub mod line;
pub mod pod_logs;
pub mod reader;
pub mod ring;
mod shared;
pub mod stamp;
pub mod stream;
pub mod unstarted;
pub mod writer;

#[cfg(test)]
mod tests;
