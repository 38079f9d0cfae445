//! The file of settings: the part of TOML 1.0 that settings without tables and lists need.
//!
//! A line is `key = value` with a string, a number or a boolean. The rest of TOML (tables, lists,
//! dates, multi-line strings) is refused with the line's number, because no setting uses it.

use anyhow::{Context as _, anyhow, bail, ensure};

/// A setting as it was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// The number of the line, from 1.
    pub(super) number: usize,
    pub(super) key: String,
    /// Without quotes and escapes.
    pub(super) value: String,
}

/// Parses a file. Errors begin with the line's number and a colon.
pub(super) fn parse(text: &str) -> anyhow::Result<Vec<Line>> {
    let mut lines: Vec<Line> = Vec::new();
    for (number, text) in (1..).zip(text.lines()) {
        let parsed = line(text).map_err(|error| anyhow!("{number}: {error}"))?;
        let Some((key, value)) = parsed else { continue };
        let known = lines.iter().find(|line| line.key == key);
        if let Some(known) = known {
            bail!("{number}: {key} is already set on line {}", known.number);
        }
        lines.push(Line { number, key, value });
    }
    Ok(lines)
}

fn line(text: &str) -> anyhow::Result<Option<(String, String)>> {
    let text = text.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    ensure!(!text.starts_with('['), "settings have no tables");
    let (key, rest) = if text.starts_with(['"', '\'']) {
        quoted(text)?
    } else {
        let end = text.find(|char: char| !char.is_ascii_alphanumeric() && !"-_".contains(char));
        let (key, rest) = text.split_at(end.unwrap_or(text.len()));
        ensure!(!key.is_empty(), "expected `key = value`");
        (key.to_owned(), rest)
    };
    let rest = rest.trim_start().strip_prefix('=').context("expected `key = value`")?.trim_start();
    let (value, rest) = if rest.starts_with(['"', '\'']) { quoted(rest)? } else { bare(rest)? };
    let rest = rest.trim_start();
    ensure!(rest.is_empty() || rest.starts_with('#'), "unexpected `{rest}` after the value");
    Ok(Some((key, value)))
}

/// Parses a quoted string at the beginning, and returns it with the rest.
fn quoted(text: &str) -> anyhow::Result<(String, &str)> {
    let mut chars = text.chars();
    let quote = chars.next().unwrap_or_default();
    let long: String = std::iter::repeat_n(quote, 3).collect();
    ensure!(!text.starts_with(&long), "settings have no multi-line strings");
    let mut value = String::new();
    loop {
        match chars.next().context("unterminated string")? {
            char if char == quote => return Ok((value, chars.as_str())),
            '\\' if quote == '"' => value.push(escaped(&mut chars)?),
            char if char.is_control() && char != '\t' => bail!("control character in a string"),
            char => value.push(char),
        }
    }
}

fn escaped(chars: &mut std::str::Chars<'_>) -> anyhow::Result<char> {
    let char = chars.next().context("unterminated string")?;
    let digits = match char {
        '"' | '\\' => return Ok(char),
        'b' => return Ok('\u{8}'),
        't' => return Ok('\t'),
        'n' => return Ok('\n'),
        'f' => return Ok('\u{c}'),
        'r' => return Ok('\r'),
        'u' => 4,
        'U' => 8,
        _ => bail!("`\\{char}` is not an escape"),
    };
    let text = chars.as_str().get(..digits).context("escape without its digits")?;
    *chars = chars.as_str()[digits..].chars();
    let code = u32::from_str_radix(text, 16).ok().filter(|_| !text.starts_with('+'));
    code.and_then(char::from_u32).with_context(|| format!("`{text}` is not a character"))
}

/// Parses a number or a boolean at the beginning, and returns it with the rest.
fn bare(text: &str) -> anyhow::Result<(String, &str)> {
    let end = text.find(|char: char| char.is_whitespace() || char == '#').unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    if matches!(word, "true" | "false") {
        return Ok((word.to_owned(), rest));
    }
    let groups =
        word.split('_').all(|group| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit()));
    let leading = word.len() > 1 && word.starts_with('0');
    ensure!(groups && !leading, "`{word}` is not a string, number or boolean");
    Ok((word.replace('_', ""), rest))
}

#[cfg(test)]
mod tests {
    use super::parse;
    use proptest::prelude::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let lines = parse(text).unwrap();
        let found: Vec<_> =
            lines.iter().map(|line| (line.key.as_str(), line.value.as_str())).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn strings_numbers_and_truth_values_are_read() {
        check(
            "# settings\nport = 8_080 # all\n\"static-dir\"='/a b\\c'\nspa = true\r\n\ncache-html = \"x\\u0041\\\"#\"\n",
            &[
                ("port", "8080"),
                ("static-dir", "/a b\\c"),
                ("spa", "true"),
                ("cache-html", "xA\"#"),
            ],
        );
    }

    #[test]
    fn an_invalid_line_is_refused_with_its_number() {
        for text in [
            "[table]",
            "port",
            "port =",
            "port = 1 2",
            "port = [1]",
            "port = 1\nport = 2",
            "a.b = 1",
            "port = 01",
            "port = 1_",
            "port = x",
            "port = \"",
            "port = \"\"\"x\"\"\"",
            "port = '\u{1}'",
            "port = \"\\q\"",
            "port = \"\\u00\"",
            "port = +1",
            "= 1",
            "port = {}",
            "port = \"\\uD800\"",
        ] {
            let error = format!("{:#}", parse(text).unwrap_err());
            let (number, _) = error.split_once(": ").unwrap();
            assert!(number.parse::<usize>().is_ok(), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_file_that_is_read_is_toml_with_the_same_values(
            text in "([a-z\"'= \\\\u#_0-9\u{e4}]{0,12}\n){0,3}|([a-c]+ ?= ?('[a-z# ]*'|\"([a-z]|\\\\[nt\"])*\"|[1-9][0-9]{0,9}|true)( #[ -~]?)?\n){0,3}",
        ) {
            if let Ok(lines) = parse(&text) {
                let table: toml::Table = toml::from_str(&text).unwrap();
                prop_assert_eq!(lines.len(), table.len());
                for line in lines {
                    let expected = match &table[&line.key] {
                        toml::Value::String(value) => value.clone(),
                        other => other.to_string(),
                    };
                    prop_assert_eq!(line.value, expected);
                }
            }
        }
    }
}
