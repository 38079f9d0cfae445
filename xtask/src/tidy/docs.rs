//! Rules about documents: links resolve, each line has one sentence, and every setting is documented.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use kiln_contract::setting::{CREDENTIALS, Credential, PARAMETERS, Parameter};
use kiln_host::environment::{BASE, CARGO, GO, NETWORK, SESSION};

use super::{at, files_with, none, root, text};

/// Words whose final stop does not end a sentence.
const ABBREVIATIONS: [&str; 6] = ["e.g.", "i.e.", "etc.", "vs.", "no.", "approx."];

/// Variables that the builder sets for its own children only.
const INTERNAL: [&str; 2] = ["KILN_CFLAGS", "KILN_LIBS"];

/// A line of a document outside code, tables, headings and pictures.
struct Prose {
    index: usize,
    text: String,
    is_item: bool,
}

fn documents() -> Vec<PathBuf> {
    files_with(".md")
}

/// Returns the lines outside fenced code, with their index.
fn unfenced(text: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            lines.push((index, line));
        }
    }
    lines
}

fn prose(text: &str) -> Vec<Prose> {
    let is_other = |line: &str| {
        line.is_empty()
            || line.starts_with("![")
            || line.starts_with(['#', '|', '>', '<', '[']) && !line.starts_with("[`")
    };
    let lines = unfenced(text).into_iter().map(|(index, line)| (index, line.trim()));
    let lines =
        lines.filter(|(_, line)| !is_other(line) || line.starts_with('[') && line.contains("]("));
    let item = |line: &str| {
        line.strip_prefix("* ").or(line.strip_prefix("- ")).or(numbered(line)).map(str::to_owned)
    };
    lines
        .map(|(index, line)| match item(line) {
            Some(text) => Prose { index, text, is_item: true },
            None => Prose { index, text: line.to_owned(), is_item: false },
        })
        .collect()
}

/// Returns the text after `1. `.
fn numbered(line: &str) -> Option<&str> {
    let (number, rest) = line.split_once(". ")?;
    number.parse::<u8>().is_ok().then_some(rest)
}

/// Replaces the text in backticks, because code has stops of its own.
fn without_code(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts.map(|(index, part)| if index % 2 == 0 { part } else { "x" }).collect()
}

/// Returns the reason why a line is not one sentence.
fn sentence_offence(line: &Prose) -> Option<&'static str> {
    let text = without_code(&line.text);
    let words: Vec<&str> = text.split_whitespace().collect();
    let ends = |word: &str| word.ends_with(['.', '?', '!']) && !ABBREVIATIONS.contains(&word);
    let begins = |word: &str| word.starts_with(|c: char| c.is_uppercase() || c == '[');
    if words.windows(2).any(|pair| ends(pair[0]) && begins(pair[1])) {
        return Some("two sentences on one line");
    }
    let whole = text.trim_end_matches(['*', ')', '"']).ends_with(['.', ':', '?', '!']);
    (!whole && !line.is_item).then_some("a sentence that continues on the next line")
}

/// Returns the targets of `[text](target)` outside code.
fn links(line: &str) -> Vec<String> {
    let line = without_code(line);
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

/// Returns a heading's anchor in GitHub's form.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter(kept)
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = unfenced(text).into_iter().filter(|(_, line)| line.starts_with('#'));
    headings.map(|(_, line)| anchor(line.trim_start_matches('#'))).collect()
}

/// Returns the reason why a link in a document does not resolve.
fn broken(document: &Path, target: &str) -> Option<String> {
    if target.contains("://") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file =
        if path.is_empty() { document.to_owned() } else { document.parent().unwrap().join(path) };
    if !root().join(&file).exists() {
        return Some(format!("`{target}`: there is no {}", file.display()));
    }
    let found = anchor.is_empty() || anchors(&text(&file)).contains(anchor);
    (!found).then(|| format!("`{target}`: no heading makes #{anchor}"))
}

/// Returns the public fields of the structs in a file, as keys of TOML.
fn keys(source: &str) -> Vec<String> {
    let field = |line: &str| {
        let line = line.trim();
        let rest = line.strip_prefix("pub(super) ").or(line.strip_prefix("pub "))?;
        let (name, _) = rest.split_once(": ")?;
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        name.chars().all(is_name).then(|| name.to_owned())
    };
    let fields = source.lines().filter_map(field);
    let names = fields.map(|name| name.trim_end_matches('_').replace('_', "-"));
    names.map(|name| if name == "x86-64" { "x86_64".to_owned() } else { name }).collect()
}

/// Fields of `Table`, which a file has for its kind of source.
fn table_keys(source: &str) -> Vec<String> {
    let Some((_, rest)) = source.split_once("pub struct Table {") else { return Vec::new() };
    let fields = rest.split_once("\n}").unwrap().0.replace("    ", "    pub ");
    keys(&fields)
}

/// Variants of the enum `Instruction`, as keys of TOML.
fn variants(source: &str) -> Vec<String> {
    let body = source.split_once("pub enum Instruction {").unwrap().1.split_once("\n}").unwrap().0;
    let variants =
        body.lines().filter_map(|line| line.trim().split_once('(')).map(|(name, _)| name);
    let variants = variants.filter(|name| name.chars().all(char::is_alphabetic));
    let kebab = |name: &str| {
        let dash = |c: char| {
            if c.is_uppercase() { format!("-{}", c.to_lowercase()) } else { c.to_string() }
        };
        name.chars().map(dash).collect::<String>().trim_start_matches('-').to_owned()
    };
    variants.map(kebab).collect()
}

/// True if a page names a key, or a table of this name.
fn names_key(page: &str, key: &str) -> bool {
    [format!("`{key}`"), format!("[{key}]"), format!(".{key}]")]
        .iter()
        .any(|form| page.contains(form))
}

/// Returns the words of a text that start with `KILN_`.
fn variables(text: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_ascii_uppercase() || c == '_';
    let starts = text.match_indices("KILN_").map(|(start, _)| &text[start..]);
    starts.map(|rest| &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())]).collect()
}

#[test]
fn links_in_documents_resolve_to_files_and_headings() {
    let mut found = Vec::new();
    for document in documents() {
        for (index, line) in unfenced(&text(&document)) {
            let broken = links(line).into_iter().filter_map(|target| broken(&document, &target));
            found.extend(broken.map(|what| at(&document, index, &what)));
        }
    }
    none("links that do not resolve", found);
}

#[test]
fn documents_have_one_sentence_per_line() {
    let mut found = Vec::new();
    for document in documents() {
        let prose = prose(&text(&document));
        let wrong = prose.iter().filter_map(|line| Some((line.index, sentence_offence(line)?)));
        found.extend(wrong.map(|(index, what)| at(&document, index, what)));
    }
    none("one sentence per line, so that a change shows what it changes", found);
}

#[test]
fn every_key_of_a_configuration_file_is_documented() {
    let pages = text("docs/build.md") + &text("docs/packages.md");
    let mut keys = keys(&text("xtask/src/config/raw.rs"));
    for path in files_with(".rs").iter().filter(|path| path.starts_with("xtask/src/source")) {
        keys.extend(table_keys(&text(path)));
    }
    assert!(keys.len() > 20, "{keys:?}");
    none(
        "not in docs/build.md or docs/packages.md",
        keys.iter().filter(|key| !names_key(&pages, key)),
    );
}

#[test]
fn every_key_of_a_scenario_is_documented() {
    let page = text("docs/testing.md");
    let source = text("xtask/src/scenario/data.rs");
    let instructions = text("xtask/src/scenario/instruction.rs");
    let keys = [keys(&source), keys(&instructions), variants(&instructions)].concat();
    let missing = keys.iter().filter(|key| {
        !["name", "instructions"].contains(&key.as_str())
            && !names_key(&page, key)
            && !page.contains(&format!("`{key} = "))
    });
    none("not in docs/testing.md", missing);
}

#[test]
fn every_environment_variable_is_documented() {
    let page: String = documents().iter().map(text).collect();
    let sources = files_with(".rs").into_iter().filter(|path| !path.starts_with("xtask/src/tidy"));
    let texts: Vec<String> = sources.map(text).collect();
    let names: BTreeSet<&str> = texts.iter().flat_map(|text| variables(text)).collect();
    let missing = names
        .iter()
        .filter(|name| !INTERNAL.contains(name) && !page.contains(&format!("`{name}`")));
    none("in no document", missing);
}

#[test]
fn every_variable_that_reaches_a_program_is_documented_with_its_reason() {
    let page = text("docs/build.md");
    let groups = [BASE, NETWORK, GO, CARGO, SESSION].into_iter().flat_map(|group| group.0);
    let rows = groups.map(|(name, reason)| format!("| `{name}` | {reason} |"));
    none("not in docs/build.md", rows.filter(|row| !page.contains(row)));
}

#[test]
fn the_page_about_booting_has_the_row_of_every_setting() {
    let page = text("docs/boot.md");
    let rows = PARAMETERS.iter().map(Parameter::row).chain(CREDENTIALS.iter().map(Credential::row));
    none("rows missing in docs/boot.md", rows.filter(|row| !page.lines().any(|line| line == row)));
}

#[test]
fn the_architecture_names_every_crate_and_every_module_of_the_builder() {
    let page = text("docs/architecture.md");
    let manifests = files_with("Cargo.toml")
        .into_iter()
        .filter_map(|path| Some(path.parent()?.to_str()?.to_owned()));
    let crates = manifests.filter(|folder| !folder.is_empty() && !folder.ends_with("/fuzz"));
    let main = text("xtask/src/main.rs");
    let modules = main.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    let names = crates.chain(modules.map(str::to_owned));
    none("not in docs/architecture.md", names.filter(|name| !page.contains(&format!("`{name}`"))));
}

#[test]
fn decisions_are_numbered_without_gaps_and_have_three_parts() {
    let decisions: Vec<_> =
        documents().into_iter().filter(|path| path.starts_with("docs/decisions")).collect();
    for (number, path) in (1..).zip(&decisions) {
        let name = path.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with(&format!("{number:04}-")), "{name} should be number {number:04}");
        for part in ["## Context", "## Decision", "## Consequences"] {
            assert!(text(path).lines().any(|line| line == part), "{name} has no `{part}`");
        }
    }
}

#[test]
fn the_glossary_is_in_alphabetical_order() {
    let page = text("docs/glossary.md");
    let rows = page
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| ")?.split_once(" | ")?.0.to_lowercase()));
    let terms: Vec<String> = rows.skip(1).filter(|term| !term.starts_with('-')).collect();
    assert!(terms.len() > 20);
    none("out of order", terms.windows(2).filter(|pair| pair[0] > pair[1]).map(|pair| &pair[1]));
}

#[test]
fn the_changelog_has_this_version_on_top() {
    let changes = text("CHANGELOG.md");
    let top = changes.lines().find_map(|line| line.strip_prefix("## ")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        top.contains(version) || top.to_lowercase().contains("unreleased"),
        "`{top}` is not {version}"
    );
}

#[test]
fn ci_runs_the_commands_of_the_readme() {
    let (readme, script) = (text("README.md"), text(".ci/run"));
    let command = "cargo xtask test";
    assert!(readme.contains(command) && script.lines().any(|line| line.trim() == command));
    assert!(readme.contains("cargo xtask run"));
    let mode = root().join(".ci/run").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111, ".ci/run is executable");
}

#[test]
fn two_sentences_on_a_line_are_noticed() {
    let offences = |text: &str| prose(text).iter().filter_map(sentence_offence).count();
    assert_eq!(offences("One sentence. Another one.\n"), 1);
    assert_eq!(offences("Does it? [Yes](x.md).\n"), 1);
    assert_eq!(offences("A sentence that\ngoes on.\n"), 1);
    assert_eq!(offences("1. First. Second.\n"), 1);
    assert_eq!(
        offences("One sentence, e.g. This one.\nIt runs `a. B`.\n* an item\n1. First thing.\n"),
        0
    );
    assert_eq!(
        offences("# Not. Prose\n| a. B | c |\n![A. Picture](x.svg)\n```\nCode. Here\n```\n"),
        0
    );
}

#[test]
fn anchors_have_githubs_form() {
    assert_eq!(anchor(" `build.toml`, key by key"), "buildtoml-key-by-key");
    assert_eq!(links("see [a](b.md#c) and `[x](y)` and [d](e)"), ["b.md#c", "e"]);
}

#[test]
fn keys_and_variables_are_found_in_source() {
    assert_eq!(
        keys("    pub(super) uki_mib: Option<u64>,\n    pub(super) crate_: X,\n"),
        ["uki-mib", "crate"]
    );
    assert_eq!(
        variables("set KILN_CACHE, or KILN_DEBIAN_MIRROR/x"),
        ["KILN_CACHE", "KILN_DEBIAN_MIRROR"]
    );
}
