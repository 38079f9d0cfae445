//! The files of a `NoCloud` disk (cloud-init's data source of this name). Pure.
//!
//! `meta-data` gives the name, `user-data` is `kiln.node`, and files `NAME.cred` are credentials.

use std::path::Path;

use kiln_contract::setting::NODE;

use super::credential::{Credentials, Source, read_file};

/// The longest `meta-data` that is read, in bytes.
pub const META_DATA_MAX: u64 = 64 * 1024;

/// The first line of cloud-init's own configuration, which Kiln does not read.
const CLOUD_CONFIG: &[u8] = b"#cloud-config";

/// The keys of `meta-data` that name the machine, the first one first.
const NAMES: [&str; 2] = ["local-hostname", "hostname"];

/// The contents of a disk.
#[derive(Debug, Default)]
pub struct Disk {
    /// The name in `meta-data`.
    pub hostname: Option<String>,
    /// True if there is a disk.
    pub found: bool,
}

/// Reads a mounted disk. Its credentials are added to the others.
pub fn read(folder: &Path, credentials: &mut Credentials) -> Disk {
    credentials.add_folder(Source::NoCloud, folder, |file| file.strip_suffix(".cred"));
    let mut own = Credentials::default();
    own.add_folder(Source::NoCloud, folder, |file| (file == "user-data").then_some(NODE.name));
    credentials.warnings.append(&mut own.warnings);
    if let Some(text) = own.value(&NODE).filter(|text| !is_empty(text)) {
        if text.starts_with(CLOUD_CONFIG) {
            let cause = "user-data is a #cloud-config, which Kiln does not read";
            let next = "write it as TOML, like kiln.node";
            credentials.refuse(Source::NoCloud, NODE.name, cause, next);
        } else {
            credentials.add(Source::NoCloud, NODE.name, text.into());
        }
    }
    let text = read_file(&folder.join("meta-data"), META_DATA_MAX);
    let hostname = hostname(&String::from_utf8_lossy(&text.unwrap_or_default()));
    Disk { hostname, found: true }
}

fn is_empty(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_whitespace)
}

/// Returns the name in a `meta-data`: YAML with a mapping at the top, or JSON with one key in each
/// line.
///
/// Only lines `KEY: VALUE` without indentation count (in JSON with it), so that a list of keys or
/// a network's name is never taken for the machine's name.
#[must_use]
pub fn hostname(text: &str) -> Option<String> {
    let json = text.trim_start().starts_with('{');
    NAMES.iter().find_map(|key| text.lines().find_map(|line| value(line, key, json)))
}

fn value(line: &str, key: &str, json: bool) -> Option<String> {
    let line = if json { line.trim_start_matches([' ', '\t', '{']) } else { line };
    let (name, value) = line.split_once(':')?;
    if unquote(name.trim_end()) != key {
        return None;
    }
    let value = if json { value.trim().trim_end_matches([',', '}']) } else { value };
    let value = value.trim();
    let value = match value.chars().next() {
        Some('"' | '\'') => unquote(value),
        _ => value.split(" #").next().unwrap_or_default().trim_end(),
    };
    (!value.is_empty()).then(|| value.to_owned())
}

/// Returns the text between quotes, or the text itself.
fn unquote(text: &str) -> &str {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    let inner = quote.and_then(|quote| text[1..].split_once(quote));
    inner.map_or(text, |(inner, _)| inner)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use kiln_contract::setting::NODE;
    use proptest::prelude::*;

    use super::{hostname, read};
    use crate::machine::credential::Credentials;

    #[test]
    fn the_name_is_found_in_yaml_and_json() {
        for (text, expected) in [
            ("instance-id: i-1\nlocal-hostname: web-1\n", Some("web-1")),
            ("hostname: b\nlocal-hostname: a", Some("a")),
            ("hostname: b", Some("b")),
            ("local-hostname: \"web-1\" # quoted", Some("web-1")),
            ("local-hostname: 'web-1'", Some("web-1")),
            ("local-hostname: web-1 # a comment", Some("web-1")),
            ("local-hostname: web-1\r\n", Some("web-1")),
            ("{\n  \"instance-id\": \"i\",\n  \"local-hostname\": \"web-1\"\n}", Some("web-1")),
            ("{\"local-hostname\": \"web-1\"}", Some("web-1")),
            ("local-hostname:\n", None),
            ("network:\n  hostname: inner\n", None),
            ("instance-id: i-1", None),
            ("", None),
        ] {
            assert_eq!(hostname(text).as_deref(), expected, "{text:?}");
        }
    }

    fn disk(files: &[(&str, &str)]) -> (Credentials, Option<String>) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let mut credentials = Credentials::default();
        let disk = read(folder.path(), &mut credentials);
        (credentials, disk.hostname)
    }

    #[test]
    fn user_data_is_kiln_node_and_other_files_are_credentials() {
        let (credentials, name) = disk(&[
            ("meta-data", "local-hostname: web-1"),
            ("user-data", "hostname = \"a\""),
            ("kiln.join.cred", "b"),
            ("network-config", "c"),
        ]);
        let found: Vec<_> = credentials.iter().collect();
        assert_eq!(found, [("kiln.join", &b"b"[..]), (NODE.name, &b"hostname = \"a\""[..])]);
        assert_eq!((credentials.warnings.len(), name.as_deref()), (0, Some("web-1")));
    }

    #[test]
    fn a_cloud_config_is_refused_with_one_line_and_the_rest_counts() {
        let (credentials, name) = disk(&[
            ("meta-data", "local-hostname: web-1"),
            ("user-data", "#cloud-config\nusers: []\n"),
            ("kiln.join.cred", "b"),
        ]);
        assert_eq!(
            credentials.warnings,
            [
                "credential \"kiln.node\" from a NoCloud disk: user-data is a #cloud-config, which Kiln \
             does not read, ignored; write it as TOML, like kiln.node"
            ]
        );
        assert_eq!((credentials.iter().count(), name.as_deref()), (1, Some("web-1")));
    }

    #[test]
    fn an_empty_disk_has_nothing() {
        let (credentials, name) = disk(&[("meta-data", ""), ("user-data", "\n")]);
        assert_eq!((credentials.iter().count(), name), (0, None));
        assert!(credentials.warnings.is_empty());
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(.|\n){0,200}") {
            let name = hostname(&text);
            prop_assert!(name.is_none_or(|name| !name.is_empty() && text.contains(&name)));
        }
    }
}
