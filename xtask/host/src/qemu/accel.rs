//! Chooses between KVM and software emulation (TCG) for the guest's instructions.
//!
//! `/dev/kvm` may exist and still fail, for example in a sandbox or with incomplete nested
//! virtualisation. Only a running machine shows this. This module therefore returns the
//! accelerators to try, in order, and the caller falls back if the first one shows no sign of life.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;

/// The device of kvm(4).
const DEVICE: &str = "/dev/kvm";

/// The accelerator that executes the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// The processor.
    Kvm,
    /// QEMU's translator; about ten times slower.
    Tcg,
}

/// The accelerators to try.
#[derive(Debug, PartialEq, Eq)]
pub struct Choice {
    /// The accelerators, in the order to try them.
    pub order: Vec<Accel>,
    /// The reason why KVM is missing, for people.
    pub without_kvm: Option<String>,
}

impl Accel {
    /// QEMU's arguments for this accelerator.
    ///
    /// `host` and `max` both select every feature that is available. QEMU's default processor model
    /// lacks features of x86-64-v2, which distributions build for.
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

/// Returns the accelerators that this host offers.
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
    fn kvm_is_tried_first_and_emulation_is_always_the_fallback() {
        assert_eq!(decide(Ok(())).order, [Accel::Kvm, Accel::Tcg]);
    }

    #[test]
    fn the_reason_for_a_missing_kvm_is_reported() {
        let choice = decide(Err(io::ErrorKind::PermissionDenied.into()));
        assert_eq!(choice.order, [Accel::Tcg]);
        assert_eq!(choice.without_kvm.as_deref(), Some("cannot open /dev/kvm: permission denied"));
    }
}
