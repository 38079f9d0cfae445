//! Files of the host, arguments of its processes, and credentials that a pod writes.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use kiln_contract::path::LATE_CREDENTIALS;

use crate::node::{ROOT, find};

/// The longest page, in bytes.
const PAGE_BYTES_MAX: u64 = 64 * 1024;

/// Returns the text of a file of the host, by its path without the leading slash.
pub(crate) fn read(path: &str) -> Result<String> {
    let file = Path::new(ROOT).join(path);
    let open = File::open(&file).with_context(|| format!("cannot open {}", file.display()))?;
    let mut bytes = Vec::new();
    open.take(PAGE_BYTES_MAX).read_to_end(&mut bytes).with_context(|| path.to_owned())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns the arguments of a host process, one in each line.
pub(crate) fn arguments(name: &str) -> Result<String> {
    let pid = find(name)?.pid;
    let text = fs::read_to_string(format!("/proc/{pid}/cmdline")).context("cannot read it")?;
    Ok(text.replace('\0', "\n"))
}

/// Writes a late credential, `NAME/VALUE` with `%NN` for other bytes, as a privileged pod does.
pub(crate) fn give(rest: &str) -> Result<String> {
    let (name, value) = rest.split_once('/').context("write NAME/VALUE")?;
    ensure!(!name.starts_with('.'), "the name starts with a dot");
    let folder = Path::new(ROOT).join(LATE_CREDENTIALS.trim_start_matches('/'));
    let (new, file) = (folder.join(format!(".{name}")), folder.join(name));
    fs::write(&new, decode(value)).context("cannot write the credential")?;
    fs::rename(&new, &file).context("cannot rename the credential")?;
    Ok(format!("gave {name}\n"))
}

fn decode(text: &str) -> Vec<u8> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend(&part.as_bytes()[2..]);
            }
            None => bytes.extend([b"%", part.as_bytes()].concat()),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn other_bytes_are_written_in_hexadecimal() {
        assert_eq!(decode("a%20b%0A%c3%a4"), "a b\nä".as_bytes());
        assert_eq!(decode("100%"), b"100%");
    }
}
