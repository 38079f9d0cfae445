//! `console`: the lines that go to the console.

use super::read::{Key, Problems, Value};

/// The console's policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Console {
    /// True if the output of containerd and kubelet goes to the console too, as with the kernel
    /// parameter `kiln.log=console`.
    pub log: bool,
}

const KEYS: [Key<Console>; 1] = [("log", |console, value, problems| {
    console.log = value.flag(problems).unwrap_or_default();
})];

/// Reads `console`.
pub fn read(value: &Value<'_>, problems: &mut Problems) -> Console {
    value.fields(&KEYS, problems)
}
