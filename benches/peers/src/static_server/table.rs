//! Samples → medians and ratios, as Markdown.

use std::fmt::Write;

use super::run::{Case, Sample};
use crate::median::median;
use crate::servers::Kind;

/// Samples of all rounds, by case and server, in the order of their first runs.
#[derive(Debug, Default)]
pub struct Results {
    cases: Vec<OfCase>,
}

/// One case.
#[derive(Debug)]
pub struct OfCase {
    /// The request.
    pub case: Case,
    /// Each server's samples, round by round.
    servers: Vec<(Kind, Vec<Sample>)>,
}

/// Medians of one server.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// The kind of server.
    pub kind: Kind,
    /// Medians of each figure.
    pub median: Sample,
    /// The median of the ratios of each round: our cost divided by this server's.
    pub ratio: f64,
    /// The same for the 99th percentile of latency.
    pub tail: f64,
}

impl Results {
    /// Adds the sample of the next round.
    pub fn add(&mut self, case: &Case, kind: Kind, sample: Sample) {
        let at = self.cases.iter().position(|of| of.case == *case).unwrap_or_else(|| {
            self.cases.push(OfCase { case: *case, servers: Vec::new() });
            self.cases.len() - 1
        });
        let servers = &mut self.cases[at].servers;
        match servers.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, samples)) => samples.push(sample),
            None => servers.push((kind, vec![sample])),
        }
    }

    /// Returns all cases.
    pub fn cases(&self) -> &[OfCase] {
        &self.cases
    }

    /// Renders one table for each case, with a sentence on our server.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for of in &self.cases {
            let rows = of.rows();
            let _ = writeln!(out, "{}", markdown(of.case.name, HEADING, &cells(&rows)));
            if let Some(verdict) = verdict(&rows) {
                let _ = writeln!(out, "{verdict}\n");
            }
            if of.case.rounds_min() > 1 {
                let title = format!("Distribution of {}, CPU µs per request", of.case.name);
                let _ = writeln!(out, "{}", markdown(&title, SPREAD, &of.spread()));
            }
        }
        out
    }
}

const SPREAD: [&str; 6] = ["server", "least", "quarter", "half", "three quarters", "most"];

impl OfCase {
    /// Returns the quartiles of each server's costs, ours first.
    fn spread(&self) -> Vec<[String; 6]> {
        let mut servers: Vec<_> = self.servers.iter().collect();
        servers.sort_by_key(|(kind, _)| *kind as u8);
        let row = |(kind, samples): &(Kind, Vec<Sample>)| {
            let mut costs: Vec<f64> = samples.iter().map(|sample| sample.cost).collect();
            costs.sort_by(f64::total_cmp);
            let last = costs.len().saturating_sub(1);
            let at = |quarter: usize| {
                costs.get(last * quarter / 4).map_or("-".to_owned(), |cost| format!("{cost:.1}"))
            };
            [kind.name().to_owned(), at(0), at(1), at(2), at(3), at(4)]
        };
        servers.into_iter().map(row).collect()
    }

    /// Returns the medians of all servers, ours first.
    pub fn rows(&self) -> Vec<Row> {
        let mut servers: Vec<_> = self.servers.iter().collect();
        servers.sort_by_key(|(kind, _)| *kind as u8);
        let Some((_, ours)) = servers.first() else { return Vec::new() };
        let row = |(kind, samples): &&(Kind, Vec<Sample>)| {
            let middle_of =
                |figure: fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
            let ratio = |figure: fn(&Sample) -> f64| {
                median(ours.iter().zip(samples).map(|(a, b)| figure(a) / figure(b)).collect())
            };
            Some(Row {
                kind: *kind,
                median: Sample {
                    cost: middle_of(|sample| sample.cost)?,
                    rate: middle_of(|sample| sample.rate)?,
                    p99: middle_of(|sample| sample.p99)?,
                    client: middle_of(|sample| sample.client)?,
                },
                ratio: ratio(|sample| sample.cost)?,
                tail: ratio(|sample| sample.p99)?,
            })
        };
        servers.iter().filter_map(row).collect()
    }
}

const HEADING: [&str; 7] = [
    "server",
    "CPU µs per request",
    "ours / it",
    "requests per s",
    "p99 ms",
    "ours / it",
    "client busy",
];

fn cells(rows: &[Row]) -> Vec<[String; 7]> {
    let cell = |row: &Row| {
        let Row { kind, median, ratio, tail } = row;
        [
            kind.name().to_owned(),
            format!("{:.2}", median.cost),
            format!("{ratio:.2}"),
            format!("{:.0}", median.rate),
            format!("{:.2}", median.p99),
            format!("{tail:.2}"),
            format!("{:.0} %", median.client * 100.0),
        ]
    };
    rows.iter().map(cell).collect()
}

/// Compares our server with the cheapest peer and the cheapest bare loop.
fn verdict(rows: &[Row]) -> Option<String> {
    let least = |want: fn(Kind) -> bool, by: fn(&Row) -> f64| {
        rows.iter().filter(|row| want(row.kind)).min_by(|a, b| by(a).total_cmp(&by(b)))
    };
    let is_peer = |kind: Kind| !kind.is_ours() && !kind.is_floor();
    let peer = least(is_peer, |row| row.median.cost)?;
    let floor = least(Kind::is_floor, |row| row.median.cost)?;
    let quick = least(is_peer, |row| row.median.p99)?;
    Some(format!(
        "Ours costs {:.2} of the cheapest peer ({}) and {:.2} of the cheaper bare loop; its p99 is {:.2} of the best peer's ({}).",
        peer.ratio,
        peer.kind.name(),
        floor.ratio,
        quick.tail,
        quick.kind.name()
    ))
}

/// Renders a table with its heading.
pub fn markdown<const N: usize>(title: &str, heading: [&str; N], rows: &[[String; N]]) -> String {
    let mut out = format!("### {title}\n\n| {} |\n|{}\n", heading.join(" | "), " --- |".repeat(N));
    for row in rows {
        let _ = writeln!(out, "| {} |", row.join(" | "));
    }
    out
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::run::CASES;
    use super::*;

    fn sample(cost: f64) -> Sample {
        Sample { cost, rate: 1e6 / cost, p99: cost / 10.0, client: 0.5 }
    }

    fn results() -> Results {
        let mut results = Results::default();
        for (ours, peer) in [(10.0, 20.0), (30.0, 40.0), (10.0, 40.0)] {
            results.add(&CASES[0], Kind::H2o, sample(peer));
            results.add(&CASES[0], Kind::Ours, sample(ours));
            results.add(&CASES[0], Kind::Floor, sample(ours));
        }
        results
    }

    #[test]
    fn ratios_are_medians_of_the_rounds_ratios() {
        expect![[r"
            ### 1 KiB

            | server | CPU µs per request | ours / it | requests per s | p99 ms | ours / it | client busy |
            | --- | --- | --- | --- | --- | --- | --- |
            | static-server | 10.00 | 1.00 | 100000 | 1.00 | 1.00 | 50 % |
            | h2o | 40.00 | 0.50 | 25000 | 4.00 | 0.50 | 50 % |
            | bare loop, write | 10.00 | 1.00 | 100000 | 1.00 | 1.00 | 50 % |

            Ours costs 0.50 of the cheapest peer (h2o) and 1.00 of the cheaper bare loop; its p99 is 0.50 of the best peer's (h2o).

        "]]
        .assert_eq(&results().render());
    }
}
