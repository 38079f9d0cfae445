//! The result of a claim.

use super::claim::SiteId;
use super::name::BadName;
use crate::table::Address;

/// The most rivals that a message names.
const RIVALS_MAX: usize = 3;

/// The result of one site's claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The site has an address; `rivals` want the same one, or a part of the same host.
    Granted {
        /// The address.
        address: Address,
        /// Sites that were refused because of this one.
        rivals: Vec<SiteId>,
    },
    /// The site has no address.
    Refused(Refusal),
}

/// The cause of a refusal as one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A field of the specification is invalid.
    Invalid,
    /// The namespace may not use the domain.
    DomainNotAllowed,
    /// Another namespace has the host.
    HostTaken,
    /// Another site has the host and prefix.
    AddressTaken,
    /// A site of the other API group has the same namespace and name.
    NameTaken,
}

/// A refusal with its cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The cause as one word.
    pub reason: Reason,
    /// The cause for people, with the next step where there is one.
    pub message: String,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 5] = [
        Self::Invalid,
        Self::DomainNotAllowed,
        Self::HostTaken,
        Self::AddressTaken,
        Self::NameTaken,
    ];

    /// Returns the word in a condition.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invalid => "Invalid",
            Self::DomainNotAllowed => "DomainNotAllowed",
            Self::HostTaken => "HostTaken",
            Self::AddressTaken => "AddressTaken",
            Self::NameTaken => "NameTaken",
        }
    }
}

impl Refusal {
    /// Creates a refusal.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// Refuses an invalid name.
    #[must_use]
    pub fn invalid(cause: BadName) -> Self {
        Self::new(Reason::Invalid, cause.to_string())
    }
}

/// Returns a sentence about the sites that want the same name, for the site that has it.
#[must_use]
pub fn sentence(rivals: &[SiteId]) -> Option<String> {
    let first = rivals.iter().take(RIVALS_MAX).map(|rival| rival.key.to_string());
    let names = first.collect::<Vec<_>>().join(", ");
    match rivals.len() {
        0 => None,
        count if count > RIVALS_MAX => {
            Some(format!("also wanted by {names} and {} more", count - RIVALS_MAX))
        }
        _ => Some(format!("also wanted by {names}")),
    }
}
