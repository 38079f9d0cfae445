//! The login of a site, from its Secret. No part of it is ever logged.

use std::fmt;

/// Proof of the right to read a repository.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// For HTTPS.
    Password {
        /// The user; forges ignore it for most tokens.
        user: String,
        /// The password or token.
        password: String,
    },
    /// For SSH.
    Key {
        /// The user of a URL that names none.
        user: String,
        /// The private key as text, without a passphrase.
        key: String,
        /// Lines of `known_hosts`, in addition to those of the administrator.
        known_hosts: String,
    },
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Login::Password",
            Self::Key { .. } => "Login::Key",
        })
    }
}
