//! `modules`: kernel modules to load.

use super::read::{Problems, Value};

/// The longest name of a module (`MODULE_NAME_LEN` of include/linux/moduleparam.h, less the NUL).
const NAME_MAX: usize = 55;

/// Reads `modules`.
pub fn read(value: &Value<'_>, problems: &mut Problems) -> Vec<String> {
    value.parsed(problems, "write its name, such as \"nbd\"", |text| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let is_name = text.len() <= NAME_MAX && text.bytes().all(allowed);
        is_name.then(|| text.to_owned()).ok_or_else(|| format!("{text:?} is not a module's name"))
    })
}
