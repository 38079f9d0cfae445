//! The table: one row of medians per gateway, then the ratios of ours to each.

use std::fmt::Write as _;

use super::peers::KINDS;
use crate::median::median;

/// The result of one gateway in one round.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sample {
    /// Microseconds of processor time for a new connection.
    pub connection: f64,
    /// Milliseconds within which 99 of 100 new connections had their answer.
    pub p99: f64,
    /// Milliseconds of processor time for a GiB.
    pub gib: f64,
    /// MB per second of all bulk connections together.
    pub throughput: f64,
    /// KiB of memory for an idle connection.
    pub idle: f64,
    /// MiB of memory after the start, including the share of mapped files.
    pub base: f64,
}

impl Sample {
    const fn columns(self) -> [f64; 6] {
        let Self { connection, p99, gib, throughput, idle, base } = self;
        [connection, p99, gib, throughput, idle, base]
    }
}

const HEAD: &str = "\
| | CPU µs per connection | p99 ms, 64 clients | CPU ms per GiB | MB/s, 4 connections | KiB per idle connection | MiB at rest |
| --- | --- | --- | --- | --- | --- | --- |
";

/// Renders the medians of each gateway, and the medians of the ratios of each round, ours divided
/// by the other.
pub fn render(rows: &[Vec<Sample>]) -> String {
    let mut out = HEAD.to_owned();
    for (kind, samples) in KINDS.iter().zip(rows) {
        row(&mut out, kind.name(), samples.iter().map(|sample| sample.columns()));
    }
    let Some((ours, others)) = rows.split_first() else { return out };
    for (kind, samples) in KINDS.iter().skip(1).zip(others) {
        let ratio = |(ours, other): (&Sample, &Sample)| {
            let (ours, other) = (ours.columns(), other.columns());
            std::array::from_fn(|column| ours[column] / other[column])
        };
        row(&mut out, &format!("gateway / {}", kind.name()), ours.iter().zip(samples).map(ratio));
    }
    out
}

fn row(out: &mut String, name: &str, samples: impl Iterator<Item = [f64; 6]>) {
    let samples: Vec<[f64; 6]> = samples.collect();
    let _ = write!(out, "| {name} |");
    for column in 0..6 {
        let value = median(samples.iter().map(|sample| sample[column]).collect());
        // Writing to a string cannot fail.
        let _ = match value.filter(|value| value.is_finite()) {
            Some(value) => write!(out, " {value:.2} |"),
            None => write!(out, " - |"),
        };
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::{Sample, render};

    #[test]
    fn rows_have_medians_and_ratios() {
        let sample = |connection| Sample { connection, gib: 2.0, ..Sample::default() };
        let rows = [[10.0, 30.0, 20.0], [20.0; 3], [40.0; 3], [10.0; 3]];
        let rows = rows.map(|figures| figures.map(sample).to_vec());
        let text = render(&rows);
        assert!(text.contains("| gateway | 20.00 | 0.00 | 2.00 |"), "{text}");
        assert!(text.contains("| gateway / haproxy, splice | 1.00 | - | 1.00 |"), "{text}");
        assert!(text.contains("| gateway / nginx stream | 0.50 |"), "{text}");
    }
}
