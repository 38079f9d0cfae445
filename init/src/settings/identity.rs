//! `hostname` and `provider-id`.

use super::read::{Problems, Value};
use crate::machine::identity;

/// The longest provider id. Those of clouds have about 100 bytes.
const PROVIDER_ID_MAX: usize = 512;

/// Reads `hostname`.
pub fn hostname(value: &Value<'_>, problems: &mut Problems) -> Option<String> {
    let name = identity::hostname(&value.text(problems)?);
    if name.is_none() {
        let next = "use at most 63 lower-case letters, digits, `-` and `.`";
        value.refuse(problems, "not a host name of RFC 1123, ignored", next);
    }
    name
}

/// Reads `provider-id`.
pub fn provider_id(value: &Value<'_>, problems: &mut Problems) -> Option<String> {
    let text = value.text(problems)?;
    if text.len() > PROVIDER_ID_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let next = "write it as PROVIDER://ID, in printable ASCII without blanks";
        value.refuse(problems, "not a provider id, ignored", next);
        return None;
    }
    Some(text)
}
