//! The changes that `_headers` makes to the fields of an answer, and their effect.

/// A change to one field.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
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

    /// True if the change concerns the field with this name.
    #[must_use]
    pub fn is_about(&self, name: &[u8]) -> bool {
        self.name().eq_ignore_ascii_case(name)
    }
}

/// True for `Set-Cookie`, whose values cannot be joined by a comma, because they may contain one
/// (RFC 9110 section 5.3).
pub(super) fn is_repeated(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"set-cookie")
}

/// Returns the fields after the changes. A change to `Vary` only adds to its value.
#[must_use]
pub fn changed(fields: &[(&[u8], &[u8])], changes: &[Change]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all: Vec<(Vec<u8>, Vec<u8>)> =
        fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    for change in changes {
        let found = all.iter().position(|(name, _)| name.eq_ignore_ascii_case(change.name()));
        let is_vary = change.name().eq_ignore_ascii_case(b"vary");
        match (change, found) {
            (Change::Set { value, .. }, Some(index)) if is_vary => {
                all[index].1 = [&all[index].1, &b", "[..], value].concat();
            }
            (Change::Set { name, value }, Some(_)) if is_repeated(name) => {
                all.push((name.clone(), value.clone()));
            }
            (Change::Set { value, .. }, Some(index)) => all[index].1.clone_from(value),
            (Change::Set { name, value }, None) => all.push((name.clone(), value.clone())),
            (Change::Remove { .. }, Some(index)) if !is_vary => drop(all.remove(index)),
            (Change::Remove { .. }, _) => {}
        }
    }
    all
}
