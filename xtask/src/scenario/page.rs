//! Compares pages of a node with the expectations of a scenario.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::instruction::{Figure, Get, Look};
use crate::qemu::Page;

/// The environment variable that rewrites the golden files with the node's pages.
pub const UPDATE: &str = "UPDATE_EXPECT";

/// Checks the answer of a port.
pub fn check_get(get: &Get, page: &Page) -> Result<()> {
    if page.status != get.status {
        bail!("{} on port {} answers {}, expected {}", get.path, get.port, page.status, get.status);
    }
    let what = format!("{} on port {}", get.path, get.port);
    check_texts(&what, get.contains.as_slice(), &get.lacks, &page.body)?;
    match (get.lines, page.body.lines().count()) {
        (Some(wanted), found) if wanted != found => {
            bail!("{what} has {found} lines, expected {wanted}:\n{}", page.body)
        }
        _ => Ok(()),
    }
}

/// Checks a page of the probe; `golden` is the folder of golden files.
pub fn check_look(look: &Look, page: &Page, golden: &Path) -> Result<()> {
    let Page { status, body } = page;
    if *status != 200 {
        bail!("the probe's {} answers {status}: {}", look.path, body.trim_end());
    }
    check_texts(&format!("the probe's {}", look.path), &look.contains, &look.lacks, body)?;
    if let Some([low, high]) = look.between {
        let number: u64 = body
            .trim()
            .parse()
            .with_context(|| format!("the probe's {} is not a number: {body}", look.path))?;
        if number < low || number > high {
            bail!("the probe's {} is {number}, not between {low} and {high}", look.path);
        }
    }
    look.golden.as_ref().map_or(Ok(()), |name| check_golden(&golden.join(name), body))
}

fn check_texts(what: &str, contains: &[String], lacks: &[String], body: &str) -> Result<()> {
    if let Some(text) = contains.iter().find(|text| !body.contains(*text)) {
        bail!("{what} lacks {text:?}:\n{body}");
    }
    match lacks.iter().find(|text| body.contains(*text)) {
        Some(text) => bail!("{what} contains {text:?}:\n{body}"),
        None => Ok(()),
    }
}

fn check_golden(path: &Path, body: &str) -> Result<()> {
    if std::env::var_os(UPDATE).is_some() {
        return fs::write(path, body).with_context(|| format!("cannot write {}", path.display()));
    }
    let expected =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    if expected == body {
        return Ok(());
    }
    bail!(
        "the page differs from {}; if the change is intended, run the scenario with {UPDATE}=1\n{}",
        path.display(),
        difference(&expected, body)
    )
}

/// Lists the lines that only one side has; the pages are sorted anyway.
fn difference(expected: &str, found: &str) -> String {
    let gone = expected.lines().filter(|line| !found.lines().any(|other| other == *line));
    let new = found.lines().filter(|line| !expected.lines().any(|other| other == *line));
    let lines: Vec<String> =
        gone.map(|line| format!("- {line}")).chain(new.map(|line| format!("+ {line}"))).collect();
    if lines.is_empty() {
        "the lines are the same, but in another order or number".to_owned()
    } else {
        lines.join("\n")
    }
}

/// Returns a figure if it is within its bounds.
pub fn check_figure(figure: &Figure, page: &Page) -> Result<u64> {
    let Figure { path, name, at_least, at_most, .. } = figure;
    let value = |line: &str| {
        let (found, value) = line.split_once(' ')?;
        if found == name { value.trim().parse().ok() } else { None }
    };
    let found: Option<u64> = page.body.lines().find_map(value);
    let found =
        found.with_context(|| format!("the probe's {path} has no {name}:\n{}", page.body))?;
    if (*at_least..=*at_most).contains(&found) {
        return Ok(found);
    }
    bail!("{name} is {found}, not between {at_least} and {at_most}:\n{}", page.body)
}

/// True if a status refuses a request without credentials.
pub fn is_refusal(status: u16) -> bool {
    // 400: a request in plain text on a port for TLS. 404: a port without this page.
    matches!(status, 400 | 401 | 403 | 404)
}

/// Returns the probe's path that writes a late credential; it decodes `%NN`.
pub fn late(name: &str, text: &str) -> String {
    let mut path = format!("/credential/{name}/");
    for byte in text.bytes() {
        let written = if byte.is_ascii_alphanumeric() {
            write!(path, "{}", char::from(byte))
        } else {
            write!(path, "%{byte:02x}")
        };
        // Writing to a string cannot fail.
        let _ = written;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(status: u16, body: &str) -> Page {
        Page { status, body: body.to_owned() }
    }

    fn look(text: &str) -> Look {
        toml::from_str(&format!("path = \"/p\"\n{text}")).unwrap()
    }

    fn check(text: &str, body: &str) -> String {
        let result = check_look(&look(text), &page(200, body), Path::new("/nowhere"));
        result.map_or_else(|error| error.to_string(), |()| "passes".to_owned())
    }

    #[test]
    fn each_expectation_can_fail_on_its_own() {
        assert_eq!(check("contains = [\"a\"]\nlacks = [\"b\"]", "a"), "passes");
        assert!(check("contains = [\"a\"]", "x").contains("lacks \"a\""));
        assert!(check("lacks = [\"b\"]", "b").contains("contains \"b\""));
        assert_eq!(check("between = [1, 3]", "3\n"), "passes");
        assert!(check("between = [1, 3]", "4\n").contains("not between 1 and 3"));
        assert!(check("between = [1, 3]", "x").contains("not a number"));
        assert!(check("golden = \"p.txt\"", "x").contains("/nowhere/p.txt"));
    }

    #[test]
    fn a_page_with_the_wrong_status_fails() {
        let text = "port = 1\ncontains = \"x\"\nlacks = [\"z\"]\nlines = 1";
        let get: Get = toml::from_str(text).unwrap();
        assert!(check_get(&get, &page(200, "x")).is_ok());
        for other in [page(500, "x"), page(200, "y"), page(200, "xz"), page(200, "x\nx")] {
            assert!(check_get(&get, &other).is_err(), "{other:?}");
        }
        assert!(
            check_look(&look(""), &page(500, "why"), Path::new("/"))
                .unwrap_err()
                .to_string()
                .contains("why")
        );
    }

    #[test]
    fn a_late_credential_is_one_path() {
        assert_eq!(late("kiln.join", "a = 1\n"), "/credential/kiln.join/a%20%3d%201%0a");
    }

    #[test]
    fn a_difference_from_a_golden_file_is_shown_line_by_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("g.txt");
        fs::write(&path, "a\nb\n").unwrap();
        assert!(check_golden(&path, "a\nb\n").is_ok());
        let error = check_golden(&path, "a\nc\n").unwrap_err().to_string();
        assert!(error.ends_with("- b\n+ c"), "{error}");
        assert!(check_golden(&path, "b\na\n").unwrap_err().to_string().contains("another order"));
    }

    #[test]
    fn a_figure_outside_its_bounds_fails() {
        let figure: Figure =
            toml::from_str("path = \"/m\"\nname = \"in-use\"\nat-least = 5\nat-most = 10").unwrap();
        let check = |body: &str| check_figure(&figure, &page(200, body));
        assert!(check("x 99\nin-use 10\n").is_ok() && check("in-use 5\n").is_ok());
        assert!(check("in-use 11\n").is_err() && check("in-use 4\n").is_err());
        assert!(check("x 1\n").unwrap_err().to_string().contains("has no in-use"));
    }

    #[test]
    fn success_redirects_and_server_errors_are_not_refusals() {
        assert!([400, 401, 403, 404].into_iter().all(is_refusal));
        assert!(![200, 204, 301, 500].into_iter().any(is_refusal));
    }
}
