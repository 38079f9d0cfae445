//! The rows of differences: Markdown, one row for each group of requests and each set of answers.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};

/// The answers of the three servers to one request.
pub type Three = [String; 3];

/// A difference and its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The group of requests.
    pub group: String,
    /// Names of the requests, sorted.
    pub cases: BTreeSet<String>,
    /// The answers of the three servers.
    pub three: Three,
    /// The reason why the difference is right or does not matter.
    pub why: String,
}

impl Row {
    /// Renders the row as Markdown.
    pub fn render(&self) -> String {
        let cases: Vec<String> = self.cases.iter().map(|case| format!("`{case}`")).collect();
        let [ours, nginx, lighttpd] = &self.three;
        format!(
            "| {} | {} | {ours} | {nginx} | {lighttpd} | {} |\n",
            self.group,
            cases.join(" "),
            self.why
        )
    }
}

/// Reads all rows of a page; other tables have other numbers of columns.
pub fn parse(page: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [group, cases, ours, nginx, lighttpd, why] = cells[..] else { continue };
        if group == "group" || group.starts_with("---") {
            continue;
        }
        ensure!(!why.is_empty(), "a row has no reason: {line}");
        rows.push(Row {
            group: group.to_owned(),
            cases: cases.split('`').skip(1).step_by(2).map(str::to_owned).collect(),
            three: [ours, nginx, lighttpd].map(str::to_owned),
            why: why.to_owned(),
        });
    }
    Ok(rows)
}

/// Returns the differences without a row, and the rows without a difference. A case belongs to the
/// row that names it with these answers.
pub fn compare<'a>(
    rows: &[Row],
    found: impl Iterator<Item = (&'a str, &'a str, &'a Three)>,
) -> (Vec<Row>, Vec<Row>) {
    let mut grouped: BTreeMap<(String, Three), BTreeSet<String>> = BTreeMap::new();
    for (group, case, three) in found {
        let key = (group.to_owned(), three.clone());
        grouped.entry(key).or_default().insert(case.to_owned());
    }
    let is = |row: &Row, group: &str, three: &Three| row.group == group && row.three == *three;
    let mut unexplained = Vec::new();
    for ((group, three), cases) in &grouped {
        let row = rows.iter().find(|row| is(row, group, three));
        if row.is_none_or(|row| row.cases != *cases) {
            let why = row.map_or(String::new(), |row| row.why.clone());
            unexplained.push(Row {
                group: group.clone(),
                cases: cases.clone(),
                three: three.clone(),
                why,
            });
        }
    }
    let stale = rows
        .iter()
        .filter(|row| grouped.get(&(row.group.clone(), row.three.clone())) != Some(&row.cases));
    (unexplained, stale.cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "text\n\n| group | requests | ours | nginx | lighttpd | why |\n| --- | --- | --- | --- | --- | --- |\n\
                        | range | `a` `b` | 200 | 206 | 206 | because |\n";

    fn three(ours: &str) -> Three {
        [ours, "206", "206"].map(str::to_owned)
    }

    #[test]
    fn a_rendered_row_parses_back() {
        let rows = parse(PAGE).unwrap();
        assert_eq!(rows.len(), 1);
        assert!(PAGE.ends_with(&rows[0].render()));
        assert!(parse(&PAGE.replace("because", "")).is_err());
    }

    #[test]
    fn a_difference_needs_a_row_and_a_row_a_difference() {
        let rows = parse(PAGE).unwrap();
        let whole = [("range", "a", &three("200")), ("range", "b", &three("200"))];
        assert_eq!(compare(&rows, whole.into_iter()), (Vec::new(), Vec::new()));
        let (unexplained, stale) = compare(&rows, whole[..1].iter().copied());
        assert_eq!((unexplained.len(), stale.len()), (1, 1), "one case of the row is gone");
        let (unexplained, _) = compare(&rows, [("range", "c", &three("416"))].into_iter());
        assert_eq!(unexplained.len(), 1);
    }
}
