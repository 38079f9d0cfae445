//! Helpers: this binary under another name, in a process of its own.
//!
//! A helper shares nothing with PID 1, so it may allocate, hang or crash. Its name is its `argv[0]`;
//! [`crate::applet::run`] calls its code.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};
use kiln_contract::cgroup::INIT;
use rustix::pipe::{PipeFlags, pipe_with};

use super::spawn::{self, Child, Program};
use crate::kernel::cgroup;

/// Every helper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Helper {
    /// Loads modules for the hardware that is present at boot.
    Coldplug,
    /// Loads modules for hardware that appears later.
    Hotplug,
    /// Makes the links in `/dev/disk`.
    DiskLinks,
    /// Saves the records of a kernel crash.
    Crash,
    /// Gives kubelet the pods that wait for the network.
    LatePods,
    /// Reads the times that a boot loader recorded.
    LoaderTimes,
    /// Loads drivers of disks.
    Disks,
    /// Grows the file system of the data partition.
    GrowData,
    /// Reads files into the page cache.
    ReadAhead,
    /// Reports how the last boot ended.
    LastBoot,
    /// Records how this boot ends.
    KeepReason,
}

impl Helper {
    /// Every helper.
    pub const ALL: [Self; 11] = [
        Self::Coldplug,
        Self::Hotplug,
        Self::DiskLinks,
        Self::Crash,
        Self::LatePods,
        Self::LoaderTimes,
        Self::Disks,
        Self::GrowData,
        Self::ReadAhead,
        Self::LastBoot,
        Self::KeepReason,
    ];

    /// Its `argv[0]`.
    #[must_use]
    pub const fn name(self) -> &'static CStr {
        match self {
            Self::Coldplug => c"kiln-coldplug",
            Self::Hotplug => c"kiln-hotplug",
            Self::DiskLinks => c"kiln-disk-links",
            Self::Crash => c"kiln-crash",
            Self::LatePods => c"kiln-late-pods",
            Self::LoaderTimes => c"kiln-loader-times",
            Self::Disks => c"kiln-disks",
            Self::GrowData => c"kiln-grow-data",
            Self::ReadAhead => c"kiln-readahead",
            Self::LastBoot => c"kiln-last-boot",
            Self::KeepReason => c"kiln-keep-reason",
        }
    }

    /// Returns the helper called `name`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|helper| helper.name().to_bytes() == name.as_bytes())
    }

    /// Starts the helper without waiting for its `execve`, which takes as long as a whole boot
    /// stage under emulation. The descriptor becomes readable when `execve` has succeeded or failed.
    pub fn start(self, args: &[&str]) -> Result<(Child, OwnedFd)> {
        let null = std::fs::File::options()
            .write(true)
            .open("/dev/null")
            .context("cannot open /dev/null")?;
        self.start_into(args, null.as_fd())
    }

    /// Starts the helper and returns the pipe that its standard output goes to.
    pub fn start_with_answer(self) -> Result<OwnedFd> {
        let (answer, output) = pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe")?;
        self.start_into(&[], output.as_fd())?;
        Ok(answer)
    }

    fn start_into(self, args: &[&str], output: BorrowedFd<'_>) -> Result<(Child, OwnedFd)> {
        let args = args.iter().map(|arg| CString::new(*arg));
        let program = Program {
            path: spawn::SELF.into(),
            args: std::iter::once(Ok(self.name().into())).chain(args).collect::<Result<_, _>>()?,
            env: Vec::new(),
            oom_score: c"0",
        };
        let group = cgroup::open(INIT)?;
        spawn::begin(&program, Some(group.as_fd()), output)
    }
}

#[cfg(test)]
mod tests {
    use super::Helper;

    #[test]
    fn every_helper_is_found_by_its_own_name() {
        for helper in Helper::ALL {
            assert_eq!(Helper::from_name(helper.name().to_str().unwrap()), Some(helper));
        }
        assert_eq!(Helper::from_name("kiln-"), None);
    }
}
