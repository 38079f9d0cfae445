//! The changes that `_headers` makes to the fields of an answer.

/// A change to one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The field gets this value and no other.
    Set {
        /// The name as it was written.
        name: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// The field is removed.
    Remove {
        /// The name as it was written.
        name: Vec<u8>,
    },
}

impl Change {
    /// Returns the name of the field as it was written.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        match self {
            Self::Set { name, .. } | Self::Remove { name } => name,
        }
    }

    /// True if the change is about the field with this name.
    #[must_use]
    pub fn is_about(&self, name: &[u8]) -> bool {
        self.name().eq_ignore_ascii_case(name)
    }
}
