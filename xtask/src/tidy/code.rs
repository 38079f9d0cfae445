//! Rules about source files: documented, short, limits named alike, processes in one place.

use std::ffi::OsStr;
use std::path::Path;

use super::imports::targets;
use super::{at, files, files_with, none, table, text};

/// The largest number of lines that a source file may have.
const FILE_LINES_MAX: usize = 500;

/// The largest number of lines that a function may have, from its signature to its closing brace.
const FUNCTION_LINES_MAX: usize = 80;

/// Source files that are longer, each with its reason.
const LONGER: [(&str, &str); 0] = [];

/// Endings of files that people write and read; locks and checksums are not among them.
const SOURCES: [&str; 4] = ["rs", "go", "sh", "py"];

/// True if the first line, after a `#!` line, is a module comment.
fn opens_with_docs(text: &str) -> bool {
    let mut lines = text.lines().filter(|line| !line.starts_with("#!/"));
    lines.next().is_some_and(|line| line.starts_with("//! "))
}

/// True for `tests.rs`, which needs no comment because its parent module has one.
fn is_tests(path: &Path) -> bool {
    path.file_name() == Some(OsStr::new("tests.rs"))
}

#[test]
fn every_rust_file_opens_with_a_module_comment() {
    let bare = files_with(".rs")
        .into_iter()
        .filter(|path| !is_tests(path) && !opens_with_docs(&text(path)));
    none("no `//!` comment in the first line", bare.map(|path| path.display().to_string()));
}

#[test]
fn no_source_file_is_above_500_lines_without_a_reason() {
    let is_source = |path: &Path| {
        path.extension().is_some_and(|end| SOURCES.iter().any(|source| end == *source))
    };
    let long = files().into_iter().filter(|path| is_source(path)).filter_map(|path| {
        let lines = text(&path).lines().count();
        let is_excepted = LONGER.iter().any(|(name, _)| path == Path::new(name));
        (lines > FILE_LINES_MAX && !is_excepted)
            .then(|| format!("{}: {lines} lines; split it by noun", path.display()))
    });
    none("longer than 500 lines", long);
}

#[test]
fn every_exception_for_a_long_file_is_needed() {
    let stale = LONGER.iter().filter(|(name, _)| text(name).lines().count() <= FILE_LINES_MAX);
    none("unneeded exceptions", stale.map(|(name, _)| name));
}

#[test]
fn no_function_is_above_80_lines() {
    let targets = targets();
    let functions = targets.iter().flat_map(|(_, target)| &target.functions);
    let long = functions.filter(|function| function.lines > FUNCTION_LINES_MAX);
    let shown =
        long.map(|it| at(&it.file, it.line - 1, &format!("`{}`: {} lines", it.name, it.lines)));
    none("longer than 80 lines", shown);
}

/// True if a constant's name suggests a limit and does not end in `_MAX`.
fn is_oddly_named_limit(name: &str) -> bool {
    let speaks =
        name.split('_').any(|word| ["MAX", "MOST", "LIMIT", "LIMITS", "MAXIMUM"].contains(&word));
    speaks && !name.ends_with("_MAX") && name != "MAX"
}

#[test]
fn limits_are_named_with_the_suffix_max() {
    let mut found = Vec::new();
    for path in files_with(".rs") {
        for (index, line) in text(&path).lines().enumerate() {
            let name = line.split_once("const ").and_then(|(_, rest)| rest.split_once(':'));
            found.extend(
                name.filter(|it| is_oddly_named_limit(it.0)).map(|it| at(&path, index, it.0)),
            );
        }
    }
    none("a limit is `X_MAX`", found);
    assert!(is_oddly_named_limit("MOST_LINES") && is_oddly_named_limit("MAX_LINES"));
    assert!(!is_oddly_named_limit("LINES_MAX") && !is_oddly_named_limit("MAXIMAL"));
}

/// Ways to skip a test or to wait for a clock. Each is written in two parts, so that this file
/// does not find itself.
const FORBIDDEN_IN_TESTS: [&str; 4] = [
    concat!("#[ig", "nore"),
    concat!("thread::sl", "eep"),
    concat!("nanosl", "eep("),
    concat!("park_time", "out"),
];

/// The number of lines before a file's tests; all of an integration test or of its support is tests.
pub(super) fn lines_before_tests(path: &Path, text: &str) -> usize {
    let in_tests_folder = path.components().any(|part| part.as_os_str() == "tests");
    if is_tests(path) || in_tests_folder {
        return 0;
    }
    let tests = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..tests].lines().count()
}

/// The lines of a file's tests that are skipped or wait, with their numbers, counted from 0.
fn skips_and_sleeps<'a>(path: &Path, text: &'a str) -> Vec<(usize, &'a str)> {
    let tests = text.lines().enumerate().skip(lines_before_tests(path, text));
    tests.filter(|(_, line)| FORBIDDEN_IN_TESTS.iter().any(|word| line.contains(word))).collect()
}

#[test]
fn no_test_is_ignored_or_sleeps() {
    let mut found = Vec::new();
    for path in files_with(".rs") {
        let text = text(&path);
        let lines = skips_and_sleeps(&path, &text);
        found.extend(lines.into_iter().map(|(index, line)| at(&path, index, line.trim())));
    }
    none("tests must not be skipped or wait for a clock", found);
}

#[test]
fn a_sleep_is_found_in_every_kind_of_test_file() {
    let sleep = format!("{}(x);\n", FORBIDDEN_IN_TESTS[1]);
    let inline = format!("{sleep}#[cfg(test)]\nmod tests {{\n{sleep}}}\n");
    let check = |path: &str, text: &str| -> Vec<usize> {
        skips_and_sleeps(Path::new(path), text).into_iter().map(|(index, _)| index).collect()
    };
    assert_eq!(check("a/src/b.rs", &sleep), [0; 0]);
    assert_eq!(check("a/src/b.rs", &inline), [3]);
    for path in ["a/src/b/tests.rs", "a/tests/b.rs", "a/tests/support/mod.rs"] {
        assert_eq!(check(path, &sleep), [0]);
    }
}

#[test]
fn clippy_forbids_starting_processes_outside_the_process_module() {
    let clippy = table("clippy.toml");
    let methods = clippy["disallowed-methods"].as_array().unwrap();
    let ours = methods
        .iter()
        .find(|method| method["path"].as_str() == Some("std::process::Command::new"))
        .unwrap();
    assert!(ours["reason"].as_str().unwrap().contains("xtask/host/src/process.rs"));
    let level = &table("Cargo.toml")["workspace"]["lints"]["clippy"]["disallowed_methods"];
    assert_eq!(level.as_str(), Some("deny"));
}

#[test]
fn a_missing_module_comment_is_noticed() {
    assert!(opens_with_docs("//! What it is.\nuse x;\n"));
    assert!(!opens_with_docs("use x;\n//! Too late.\n"));
    assert!(!opens_with_docs("//!\n"));
    assert!(!opens_with_docs(""));
}
