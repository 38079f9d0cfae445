//! The reasons for which a request is not approved.

use std::fmt;

/// The rule that a request breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// The request's bytes are too large, or not a PKCS #10 request in PEM.
    Form,
    /// The requester is not a node, or asks for another node.
    Requester,
    /// The subject is not that of the requester.
    Subject,
    /// The usages are not those of a server's certificate.
    Usages,
    /// An alternative name is of a kind that no kubelet asks for, or belongs to the cluster itself.
    Names,
    /// The key is too weak, or of a kind that kubelet does not make.
    Key,
    /// The signature is not made with the request's key.
    Signature,
    /// The Node object does not exist, or does not have an address that the request names.
    Address,
}

impl Rule {
    /// Every rule, in the order in which they are applied.
    pub const ALL: [Self; 8] = [
        Self::Form,
        Self::Requester,
        Self::Subject,
        Self::Usages,
        Self::Names,
        Self::Key,
        Self::Signature,
        Self::Address,
    ];

    /// Returns the name that conditions, events and metrics show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Form => "InvalidRequest",
            Self::Requester => "WrongRequester",
            Self::Subject => "WrongSubject",
            Self::Usages => "WrongUsages",
            Self::Names => "WrongNames",
            Self::Key => "WrongKey",
            Self::Signature => "WrongSignature",
            Self::Address => "NotTheNodesAddress",
        }
    }
}

/// A broken rule, and the value that breaks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The rule.
    pub rule: Rule,
    /// One line for people, with the value and, where there is one, the next step.
    pub message: String,
}

impl Refusal {
    /// Creates a refusal.
    pub(super) fn new(rule: Rule, message: impl Into<String>) -> Self {
        Self { rule, message: message.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}
