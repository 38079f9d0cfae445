//! Rules about prose that a program can check: openings without a verb, and words that `docs/style.md` replaces.

use std::path::{Path, PathBuf};

use super::{at, files, none, text};

/// First words of a sentence that then lacks its subject or its verb, unless it is a question.
const OPENINGS: [&str; 5] = ["What", "Whether", "How", "Who", "Where"];

/// Phrases, each with what to write instead.
const PHRASES: [(&str, &str); 9] = [
    ("is none", "name what is missing or wrong"),
    ("are none", "name what is missing or wrong"),
    ("for ever", "forever"),
    ("anew", "again"),
    ("nobody", "name the actor, or use the passive voice"),
    ("somebody", "name the actor"),
    ("whoever", "name the actor"),
    ("beside", "next to, or in parallel"),
    ("now and then", "sometimes"),
];

/// Lines that may break a rule: the file, a part of the line, and the reason.
const EXCEPTIONS: [(&str, &str, &str); 1] =
    [("docs/style.md", "an address that is none", "quotes the bad form")];

/// Files in which people read prose.
const KINDS: [&str; 9] = ["rs", "go", "c", "md", "toml", "yaml", "sh", "svg", "conf"];

/// This folder holds the patterns themselves.
const OWN: &str = "xtask/src/tidy/prose.rs";

fn prose_files() -> Vec<PathBuf> {
    let is_prose = |path: &Path| {
        let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or("");
        let is_foreign = path.components().any(|part| part.as_os_str() == "seeds");
        KINDS.contains(&kind) && !is_foreign && path != Path::new(OWN)
    };
    files().into_iter().filter(|path| is_prose(path)).collect()
}

/// The text of a line that people read as a sentence's beginning: a comment, or a document's line.
fn sentence<'a>(path: &Path, line: &'a str) -> Option<&'a str> {
    let line = line.trim_start();
    match path.extension()?.to_str()? {
        "md" => Some(line.trim_start_matches(['*', '-', '>', ' '])),
        "toml" | "yaml" | "sh" | "conf" => line.strip_prefix("# "),
        _ => ["/// ", "//! ", "// "].iter().find_map(|mark| line.strip_prefix(mark)),
    }
}

fn opens_headless(sentence: &str) -> bool {
    let first = sentence.split(|c: char| !c.is_alphanumeric()).next().unwrap_or("");
    OPENINGS.contains(&first) && !sentence.contains('?')
}

/// The words of a line in lower case, so that a phrase is found only as whole words.
fn words(line: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '\'';
    let words = line.split(|c: char| !is_word(c)).filter(|word| !word.is_empty());
    let words: Vec<String> = words.map(str::to_lowercase).collect();
    format!(" {} ", words.join(" "))
}

/// The rule that a line breaks, and what to do about it.
fn offence(path: &Path, line: &str) -> Option<String> {
    if sentence(path, line).is_some_and(opens_headless) {
        return Some("begins without a subject; begin with a verb or a noun".to_owned());
    }
    let words = words(line);
    let found = PHRASES.iter().find(|(phrase, _)| words.contains(&format!(" {phrase} ")));
    found.map(|(phrase, instead)| format!("\"{phrase}\": {instead}"))
}

fn is_excepted(path: &Path, line: &str) -> bool {
    EXCEPTIONS.iter().any(|(file, part, _)| path == Path::new(file) && line.contains(part))
}

#[test]
fn prose_keeps_the_rules_of_the_style_guide() {
    let mut found = Vec::new();
    for path in prose_files() {
        for (index, line) in text(&path).lines().enumerate() {
            let offence = offence(&path, line).filter(|_| !is_excepted(&path, line));
            found.extend(offence.map(|what| at(&path, index, &what)));
        }
    }
    none("docs/style.md has the rules for prose", found);
}

#[test]
fn every_exception_is_still_needed() {
    let needed = |(file, part, _): &(&str, &str, &str)| {
        let path = Path::new(file);
        text(path).lines().any(|line| line.contains(part) && offence(path, line).is_some())
    };
    none("unneeded exceptions", EXCEPTIONS.iter().filter(|it| !needed(it)).map(|it| it.1));
}

#[test]
fn headless_sentences_and_replaced_words_are_noticed() {
    let offends = |path: &str, line: &str| offence(Path::new(path), line).is_some();
    assert!(offends("a.rs", "    /// What a pod is."));
    assert!(offends("a.md", "* Whether it runs."));
    assert!(offends("a.toml", "# How it is made."));
    assert!(offends("a.rs", "bail!(\"tried for ever\")") && offends("a.md", "Nobody reads it."));
    assert!(!offends("a.rs", "    /// Returns what a pod is."));
    assert!(!offends("a.md", "What is a pod?") && !offends("a.rs", "if x.is_none() {}"));
    assert!(!offends("a.md", "# What a pod is") && !offends("a.md", "besides"));
}
