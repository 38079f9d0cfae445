//! `data`: the choice of the disk for the data partition, and the need for it.

use super::read::{Key, Problems, Value};

/// The policy for the data partition. The default uses a partition that exists and makes none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DataPolicy {
    /// True if the node must not fall back to memory.
    pub required: bool,
    /// True if a partition may be made on a blank disk.
    pub blank: bool,
    /// The disk on which a partition may be made.
    pub disk: Option<DiskChoice>,
}

/// A disk, described by properties of which all must fit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskChoice {
    /// The device, or a link to it below `/dev`.
    pub path: Option<String>,
    /// The serial number.
    pub serial: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// The smallest size, in bytes.
    pub size_min: Option<u64>,
}

const KEYS: [Key<DataPolicy>; 3] = [
    ("required", |policy, value, problems| {
        policy.required = value.flag(problems).unwrap_or_default();
    }),
    ("blank", |policy, value, problems| {
        policy.blank = value.flag(problems).unwrap_or_default();
    }),
    ("disk", disk),
];

const DISK_KEYS: [Key<DiskChoice>; 4] = [
    ("path", path),
    ("serial", |disk, value, problems| disk.serial = value.text(problems)),
    ("model", |disk, value, problems| disk.model = value.text(problems)),
    ("size", size),
];

/// Reads `data`.
pub fn read(value: &Value<'_>, problems: &mut Problems) -> DataPolicy {
    value.fields(&KEYS, problems)
}

/// Reads `data.disk`. A mistake in it makes the whole choice void, because a choice with fewer
/// properties could fit another disk.
fn disk(policy: &mut DataPolicy, value: &Value<'_>, problems: &mut Problems) {
    let before = problems.count();
    let disk = value.fields(&DISK_KEYS, problems);
    if problems.count() > before {
        let next = "correct it, so that no other disk fits";
        value.refuse(problems, "has a mistake, so no disk is chosen", next);
    } else if disk == DiskChoice::default() {
        value.refuse(problems, "chooses no disk", "give path, serial, model or size");
    } else {
        policy.disk = Some(disk);
    }
}

fn path(disk: &mut DiskChoice, value: &Value<'_>, problems: &mut Problems) {
    let Some(text) = value.text(problems) else { return };
    let parts = text.strip_prefix("/dev/").unwrap_or_default().split('/');
    if parts.into_iter().any(|part| part.is_empty() || part.starts_with('.')) {
        return value.refuse(problems, "not a path below /dev", "write it as \"/dev/vda\"");
    }
    disk.path = Some(text);
}

fn size(disk: &mut DiskChoice, value: &Value<'_>, problems: &mut Problems) {
    let Some(text) = value.text(problems) else { return };
    disk.size_min = bytes(&text);
    if disk.size_min.is_none() {
        value.refuse(problems, "not a size", "write it as \"100g\" (k, m, g or t)");
    }
}

/// Parses a size: digits, then nothing, `k`, `m`, `g` or `t` (powers of 1024).
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    let number: u64 = digits.parse().ok()?;
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_have_a_unit_of_one_letter() {
        for (text, expected) in [
            ("0", Some(0)),
            ("100g", Some(100 << 30)),
            ("1T", Some(1 << 40)),
            ("1.5g", None),
            ("g", None),
            ("", None),
            ("10gb", None),
            ("-1", None),
            ("99999999t", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
