//! The output of the services and the lines of the kernel: from pipes to bounded files in
//! `/var/log`.
//!
//! ```text
//! containerd, kubelet ─pipe─┐                 ┌─ ring ─┐
//!                           ├─ reader thread ─┤        ├─ writer thread ─ NAME.log, NAME.log.1
//! /dev/kmsg ────────────────┘                 └─ ring ─┘
//! ```
//!
//! There are two threads, because a disk may stall for a minute but a pipe must not. The [`reader`]
//! drops and counts the bytes that do not fit, only the [`writer`] waits for a disk, and the main
//! loop does neither. PID 1's own lines come back to it through the kernel's log. [`line`] has the
//! format and [`file`](mod@file) the rotation. The applet `journalctl` reads both.

pub mod file;
pub mod handle;
pub mod kernel;
pub mod line;
pub mod pod_logs;
pub mod reader;
pub mod requests;
pub mod ring;
mod shared;
pub mod stamp;
pub mod stream;
pub mod unstarted;
pub mod writer;

#[cfg(test)]
mod tests;
