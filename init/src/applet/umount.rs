//! `umount` (umount(8)). kubelet searches its error text for "not mounted".

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Result, bail};
use lexopt::Parser;
use lexopt::prelude::*;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::errno::describe;
use super::mount::{FAILED, USAGE};
use crate::kernel::mountinfo;

/// A parsed command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Request {
    targets: Vec<String>,
    how: How,
    recursive: bool,
    quiet: bool,
}

/// The flags of the system call, and the action for a busy target.
#[derive(Debug, Default, PartialEq, Eq)]
struct How {
    force: bool,
    lazy: bool,
    read_only: bool,
}

/// Runs the applet.
#[must_use]
pub fn run(args: &[String]) -> i32 {
    match parse(args) {
        Ok(request) => {
            let failed = request.targets.iter().filter(|target| !request.perform(target)).count();
            if failed == 0 { 0 } else { FAILED }
        }
        Err(error) => {
            eprintln!("umount: {error:#}");
            USAGE
        }
    }
}

/// Parses the arguments.
pub fn parse(args: &[String]) -> Result<Request> {
    let mut request = Request::default();
    let mut args = Parser::from_args(args);
    while let Some(arg) = args.next()? {
        match arg {
            Short('f') | Long("force") => request.how.force = true,
            Short('l') | Long("lazy") => request.how.lazy = true,
            Short('r') | Long("read-only") => request.how.read_only = true,
            Short('R') | Long("recursive") => request.recursive = true,
            Short('q') | Long("quiet") => request.quiet = true,
            // Only a hint: the target is enough to find the mount.
            Short('t') | Long("types") => drop(args.value()?),
            Short('c' | 'd' | 'i' | 'n' | 'v')
            | Long("no-canonicalize" | "detach-loop" | "internal-only" | "no-mtab" | "verbose") => {
            }
            Value(target) => request.targets.push(target.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    if request.targets.is_empty() {
        bail!("bad usage: no target given");
    }
    Ok(request)
}

impl Request {
    fn perform(&self, target: &str) -> bool {
        if !self.recursive {
            return self.unmount(target.as_bytes());
        }
        let text = std::fs::read_to_string(mountinfo::SELF).unwrap_or_default();
        let points = mountinfo::points(&text);
        let below = points.iter().rev().filter(|p| mountinfo::is_below(p, target.as_bytes()));
        let mut results: Vec<bool> = below.map(|point| self.unmount(point)).collect();
        if results.is_empty() {
            results.push(self.unmount(target.as_bytes()));
        }
        results.into_iter().all(|done| done)
    }

    fn unmount(&self, target: &[u8]) -> bool {
        let mut flags = UnmountFlags::empty();
        flags.set(UnmountFlags::FORCE, self.how.force);
        flags.set(UnmountFlags::DETACH, self.how.lazy);
        match rustix::mount::unmount(target, flags) {
            Ok(()) => true,
            Err(Errno::BUSY) if self.how.read_only => {
                rustix::mount::mount_remount(target, MountFlags::RDONLY, "").is_ok()
            }
            Err(error) => {
                if !(self.quiet && error == Errno::INVAL) {
                    eprintln!("{}", message(target, error));
                }
                false
            }
        }
    }
}

/// Returns the text that umount(8) prints, because callers search it.
fn message(target: &[u8], error: Errno) -> String {
    let target = OsStr::from_bytes(target).to_string_lossy();
    match error {
        Errno::INVAL => format!("umount: {target}: not mounted."),
        Errno::NOENT => format!("umount: {target}: no mount point specified."),
        Errno::BUSY => format!("umount: {target}: target is busy."),
        Errno::PERM => format!("umount: {target}: must be superuser to unmount."),
        other => format!("umount: {target}: umount failed: {}.", describe(other)),
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::{Request, message, parse};

    fn request(line: &str) -> anyhow::Result<Request> {
        parse(&line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn short_and_long_options_mean_the_same() {
        assert_eq!(request("-flR /a").unwrap(), request("--force --lazy --recursive /a").unwrap());
        assert_eq!(request("/a -t nfs -- -b").unwrap().targets, ["/a", "-b"]);
        for line in ["", "-x /a", "--what /a", "/a -t"] {
            assert!(request(line).is_err(), "{line}");
        }
    }

    #[test]
    fn kubelet_finds_the_text_that_it_searches_for() {
        for (error, expected) in [
            (Errno::INVAL, "umount: /a: not mounted."),
            (Errno::NOENT, "umount: /a: no mount point specified."),
            (Errno::BUSY, "umount: /a: target is busy."),
            (Errno::IO, "umount: /a: umount failed: Input/output error."),
        ] {
            assert_eq!(message(b"/a", error), expected);
        }
    }
}
