//! Texts with `${NAME}` for what only a running cluster knows.

use anyhow::{Result, bail};

/// The names, for messages.
const NAMES: [&str; 11] = [
    "join",
    "server",
    "token",
    "ca",
    "node",
    "new-token",
    "expired-token",
    "foreign-ca",
    "registry",
    "registry-ca",
    "locked-registry",
];

/// Fails if a text has an unknown name.
pub fn check(text: &str) -> Result<()> {
    fill(text, |_| Ok(String::new())).map(drop)
}

/// Replaces all names by their values.
pub fn fill(text: &str, value: impl Fn(&str) -> Result<String>) -> Result<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        filled.push_str(before);
        let Some((name, after)) = after.split_once('}') else { bail!("a `${{` has no end") };
        if !NAMES.contains(&name) {
            bail!("`${{{name}}}` is unknown; the names are {}", NAMES.join(", "));
        }
        filled.push_str(&value(name)?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_replaced_by_values() {
        let value = |name: &str| Ok(name.to_uppercase());
        assert_eq!(fill("a ${token}, ${node}$", value).unwrap(), "a TOKEN, NODE$");
        // A value is not read again.
        assert_eq!(fill("${ca}", |_| Ok("${x}".into())).unwrap(), "${x}");
    }

    #[test]
    fn an_unknown_name_is_reported() {
        assert!(check("${tokn}").unwrap_err().to_string().contains("the names are join"));
        assert!(check("${token").is_err());
    }
}
