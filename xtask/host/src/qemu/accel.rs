//! How the guest's instructions are run: KVM where it works, else software emulation (TCG).
//!
//! `/dev/kvm` may be there and still fail (nested virtualisation that is half set up, a sandbox).
//! No question to the device tells that; only a machine that runs does. So this module says what
//! is worth a try, in order, and the caller falls back when the first try does not come alive.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;

/// The device of kvm(4).
const DEVICE: &str = "/dev/kvm";

/// Who runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// The processor.
    Kvm,
    /// QEMU's translator; about ten times slower.
    Tcg,
}

/// What to try, in order, and why KVM is not among it.
#[derive(Debug, PartialEq, Eq)]
pub struct Choice {
    /// The first is tried first.
    pub order: Vec<Accel>,
    /// Why there is no KVM, for people.
    pub without_kvm: Option<String>,
}

impl Accel {
    /// Its arguments for QEMU.
    ///
    /// `host` and `max` both stand for all that can be offered. QEMU's default processor model is
    /// too old for the x86-64-v2 that distributions build for.
    pub fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg", "-cpu", "max"],
        }
    }
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "KVM",
            Self::Tcg => "software emulation (TCG)",
        })
    }
}

/// What this host offers.
pub fn choose() -> Choice {
    decide(open(Path::new(DEVICE)))
}

fn open(device: &Path) -> io::Result<()> {
    OpenOptions::new().read(true).write(true).open(device).map(drop)
}

fn decide(opened: io::Result<()>) -> Choice {
    match opened {
        Ok(()) => Choice { order: vec![Accel::Kvm, Accel::Tcg], without_kvm: None },
        Err(error) => Choice {
            order: vec![Accel::Tcg],
            without_kvm: Some(format!("cannot open {DEVICE}: {error}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_opens_is_tried_and_never_relied_on() {
        assert_eq!(decide(Ok(())).order, [Accel::Kvm, Accel::Tcg]);
    }

    #[test]
    fn a_device_that_does_not_open_is_explained() {
        let choice = decide(Err(io::ErrorKind::PermissionDenied.into()));
        assert_eq!(choice.order, [Accel::Tcg]);
        assert_eq!(choice.without_kvm.as_deref(), Some("cannot open /dev/kvm: permission denied"));
    }
}
