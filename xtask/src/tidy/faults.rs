//! Rules about faults: scenarios and tests show everything that the table in `docs/boot.md` promises,
//! and every test that a page names in its section [`TESTED`] exists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{files_with, none, root, text};
use crate::scenario;

/// The table's heading.
const HEADING: &str = "## What happens when …";

/// The heading of a table that names a test for each failure.
const TESTED: &str = "## What has a test";

/// Returns the cells of the table's rows: the fault, its outcome, and the tests that show it.
fn rows(page: &str) -> Vec<[String; 3]> {
    let section = section(page, HEADING).unwrap();
    let cells = |line: &str| {
        let mut cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
        let row = [cells.next()?, cells.next()?, cells.next()?].map(str::to_owned);
        (cells.next().is_none() && row[2].starts_with(['s', 't'])).then_some(row)
    };
    section.lines().filter_map(cells).filter(|row| row[2] != "shown by").collect()
}

/// Returns the text below a heading.
fn section<'a>(page: &'a str, heading: &str) -> Option<&'a str> {
    page.split_once(heading)?.1.split("\n## ").next()
}

/// Returns the names in backticks after a word: `a` for `scenario` in "scenario `a`".
fn named(cell: &str, word: &str) -> Vec<String> {
    let parts = cell.split(", ").filter_map(|part| part.strip_prefix(word));
    parts.map(|part| part.trim().trim_matches('`').to_owned()).collect()
}

#[test]
fn every_fault_of_a_scenario_is_in_the_table_and_no_other() {
    let table: BTreeSet<(String, String)> = rows(&text("docs/boot.md"))
        .iter()
        .flat_map(|[fault, _, shown]| {
            named(shown, "scenario").into_iter().map(|name| (name, fault.clone()))
        })
        .collect();
    let scenarios = scenario::load(&root().join("tests/vm/scenarios")).unwrap();
    let injected: BTreeSet<(String, String)> = scenarios
        .iter()
        .flat_map(|one| one.faults.iter().map(|fault| (one.name.clone(), fault.clone())))
        .collect();
    assert!(table.len() > 5, "{table:?}");
    let show = |(name, fault): &(String, String)| format!("`{name}`: {fault}");
    none("in a scenario, but not in docs/boot.md", injected.difference(&table).map(show));
    none("in docs/boot.md, but in no scenario", table.difference(&injected).map(show));
}

#[test]
fn every_row_about_a_fault_names_a_test_that_exists() {
    let sources: String = files_with(".rs")
        .iter()
        .filter(|path| path.starts_with(Path::new("init")))
        .map(text)
        .collect();
    let rows = rows(&text("docs/boot.md"));
    let unshown = rows.iter().filter(|[_, _, shown]| {
        named(shown, "scenario").is_empty() && named(shown, "test").is_empty()
    });
    none("without a scenario or a test", unshown.map(|[fault, ..]| fault));
    let tests = rows.iter().flat_map(|[_, _, shown]| named(shown, "test"));
    none("missing tests", tests.filter(|name| !sources.contains(&format!("fn {name}("))));
}

#[test]
fn every_test_that_a_page_names_exists() {
    let is_name = |word: &&str| {
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        word.matches('_').count() > 2 && word.chars().all(is_part)
    };
    let mut count = 0;
    for page in files_with(".md") {
        let page_text = text(&page);
        let Some(section) = section(&page_text, TESTED) else { continue };
        // `docs/X.md` is about the package X.
        let package = Path::new("pkgs").join(page.file_stem().unwrap());
        let folders = [
            package.as_path(),
            Path::new("base"),
            Path::new("pkgs/daemon"),
            Path::new("pkgs/server"),
        ];
        let is_source = |path: &&PathBuf| folders.iter().any(|folder| path.starts_with(folder));
        let sources: String = files_with(".rs").iter().filter(is_source).map(text).collect();
        let words = section.split('`').skip(1).step_by(2);
        let names: BTreeSet<&str> = words.filter(is_name).collect();
        count += names.len();
        let missing = names.iter().filter(|name| !sources.contains(&format!("fn {name}(")));
        none(&format!("missing tests that {} names", page.display()), missing);
    }
    assert!(count > 50, "{count} tests are named");
}
