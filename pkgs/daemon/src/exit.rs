//! Exit codes of `sysexits.h` (4.3BSD), which distinguish a mistake in a manifest from a server that is
//! not available yet.
//!
//! A code is attached to an error as a context, such as `.context(Exit::Config)`, and is then part of
//! the printed chain.

use std::fmt;
use std::process::ExitCode;

/// The reason why a program exits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: finished, or stopped by a signal.
    Success,
    /// 64 (`EX_USAGE`): the command line is wrong.
    Usage,
    /// 70 (`EX_SOFTWARE`): any other error.
    Software,
    /// 75 (`EX_TEMPFAIL`): a retry may succeed later.
    TempFail,
    /// 78 (`EX_CONFIG`): a configured value, file or folder is wrong; a retry cannot succeed.
    Config,
}

impl Exit {
    /// Returns the outermost code in the error's chain, or [`Exit::Software`] if the chain has no code.
    #[must_use]
    pub fn of(error: &anyhow::Error) -> Self {
        error.downcast_ref().copied().unwrap_or(Self::Software)
    }

    /// Returns the process's exit status.
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
            .context("cannot read the port")
            .unwrap_err();
        assert_eq!(Exit::of(&error), Exit::Config);
        assert_eq!(format!("{error:#}"), "cannot read the port: wrong configuration: not a number");
    }

    #[test]
    fn an_error_without_a_code_is_an_internal_error() {
        assert_eq!(Exit::of(&anyhow!("oops")).code(), 70);
    }
}
