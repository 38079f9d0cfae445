//! Exit codes, after `sysexits.h` of 4.3BSD: a supervisor and a person can tell a typing error in
//! a manifest from a server that is not there yet.
//!
//! A code travels as a context of the error: `.context(Exit::Config)` anywhere on the way up.
//! It is then also part of the chain that is printed.

use std::fmt;
use std::process::ExitCode;

/// Why a program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, or ended because it was asked to.
    Success,
    /// 64 (`EX_USAGE`): the command line is wrong.
    Usage,
    /// 70 (`EX_SOFTWARE`): anything that is not named below.
    Software,
    /// 75 (`EX_TEMPFAIL`): the same may work later.
    TempFail,
    /// 78 (`EX_CONFIG`): a configured value, file or folder is wrong; later is not better.
    Config,
}

impl Exit {
    /// The outermost code in the error's chain, [`Exit::Software`] where there is none.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        error.downcast_ref().copied().unwrap_or(Self::Software)
    }

    /// The number that the parent sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Usage => 64,
            Self::Software => 70,
            Self::TempFail => 75,
            Self::Config => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Success => "success",
            Self::Usage => "wrong usage",
            Self::Software => "internal error",
            Self::TempFail => "temporary failure",
            Self::Config => "wrong configuration",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;
    use anyhow::{Context as _, anyhow};

    #[test]
    fn a_code_is_found_below_other_contexts() {
        let error = Err::<(), _>(anyhow!("not a number"))
            .context(Exit::Config)
            .context("reading the port")
            .unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Config);
        assert_eq!(format!("{error:#}"), "reading the port: wrong configuration: not a number");
    }

    #[test]
    fn an_error_without_a_code_is_an_internal_one() {
        assert_eq!(Exit::of(&anyhow!("oops")).code(), 70);
    }
}
