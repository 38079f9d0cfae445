//! `cargo xtask test --list`

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Result;

use super::report::{Kind, last_durations};
use super::suite::Suite;
use crate::progress::Seconds;
use kiln_host::print;

/// One line of the list.
struct Row {
    name: String,
    tier: &'static str,
    images: String,
    /// The duration of the last run, in seconds.
    last: Option<u64>,
}

/// Prints the checks and scenarios of a run.
pub(super) fn print(suite: &Suite) -> Result<()> {
    let durations = last_durations()?;
    let last = |kind: Kind, name: &str| durations.get(&kind.key(name)).copied();
    let checks = suite.checks.iter().map(|check| Row {
        name: check.name.to_owned(),
        tier: "host",
        images: String::new(),
        last: last(Kind::Check, check.name),
    });
    let scenarios = suite.scenarios.iter().map(|scenario| Row {
        name: scenario.name.clone(),
        tier: scenario.tier.name(),
        images: scenario
            .images()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
            .join(" "),
        last: last(Kind::Scenario, &scenario.name),
    });
    print!("{}", table(&checks.chain(scenarios).collect::<Vec<_>>()));
    Ok(())
}

fn table(rows: &[Row]) -> String {
    let width =
        |of: fn(&Row) -> usize, least: usize| rows.iter().map(of).max().unwrap_or(0).max(least);
    let (names, images) = (width(|row| row.name.len(), 4), width(|row| row.images.len(), 5));
    let mut text = format!("{:names$}  tier  {:images$}  last\n", "name", "image");
    for row in rows {
        let last = row
            .last
            .map_or_else(|| "never".to_owned(), |s| Seconds(Duration::from_secs(s)).to_string());
        // Writing to a string cannot fail.
        let _ =
            writeln!(text, "{:names$}  {:4}  {:images$}  {last}", row.name, row.tier, row.images);
    }
    text
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn the_columns_line_up() {
        let row = |name: &str, tier, images: &str, last| Row {
            name: name.into(),
            tier,
            images: images.into(),
            last,
        };
        let rows = [
            row("go test", "host", "", None),
            row("other-image", "full", "build other/build", Some(95)),
        ];
        let expected = expect![[r"
            name         tier  image              last
            go test      host                     never
            other-image  full  build other/build  1 min 35 s
        "]];
        expected.assert_eq(&table(&rows));
    }
}
