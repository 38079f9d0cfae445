//! The table: one row per boot, then medians with their spread, and the ratios.

use std::fmt::Write;

use crate::median::median;

/// Names of the images: the two peers, and Kiln's own.
pub const FLOOR: &str = "floor";
pub const OTHER: &str = "other";
pub const OURS: &str = "kiln";

/// A value for each column that has one.
type Values = [Option<f64>; COLUMNS.len()];

/// The marks of a boot, in seconds since the kernel's start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Times {
    /// PID 1's first line.
    pub init: f64,
    /// From PID 1's first instruction to containerd's exec; the floor does not report it.
    pub exec: Option<f64>,
    /// containerd answers.
    pub containerd: f64,
    /// kubelet is healthy.
    pub kubelet: f64,
    /// The pod's first HTTP 200.
    pub pod: f64,
    /// The same since QEMU's start, which includes the firmware and loading the file.
    pub whole: f64,
    /// Memory in use in MiB, if it was measured.
    pub memory: Option<f64>,
    /// From PID 1's first line of the shutdown to its last, by the guest's clock, if there was a
    /// shutdown.
    pub down: Option<f64>,
}

impl Times {
    fn columns(&self) -> Values {
        let Self { init, exec, containerd, kubelet, pod, whole, memory, down } = *self;
        [Some(init), exec, Some(containerd), Some(kubelet), Some(pod), Some(whole), memory, down]
    }
}

const COLUMNS: [&str; 8] =
    ["PID 1", "to exec", "containerd", "kubelet", "pod", "from QEMU", "MiB in use", "shutdown"];

/// Renders the first line.
pub fn heading() -> String {
    line("round", "image", COLUMNS.map(str::to_owned))
}

/// Renders one boot.
pub fn row(round: &str, image: &str, times: &Times) -> String {
    line(
        round,
        image,
        times.columns().map(|value| value.map_or("-".into(), |value| format!("{value:.2}"))),
    )
}

/// Renders the medians of both images and their ratio, each with its minimum and maximum.
///
/// The spread of the ratio is over the rounds, each of which is two consecutive boots.
pub fn summary(peer: &str, rows: &[[Times; 2]]) -> String {
    let boots = |image: usize| rows.iter().map(|row| row[image].columns()).collect::<Vec<Values>>();
    let (theirs, ours) = (boots(0), boots(1));
    let ratios: Vec<Values> =
        ours.iter().zip(&theirs).map(|(ours, theirs)| divide(*ours, *theirs)).collect();
    let medians = [&theirs, &ours].map(|boots| each(boots, median));
    let ratio = divide(medians[1], medians[0]);
    let mut out = String::new();
    for (label, image, boots, middle) in [
        ("median", peer, &theirs, medians[0]),
        ("median", OURS, &ours, medians[1]),
        ("ratio", &format!("{OURS}/{peer}"), &ratios, ratio),
    ] {
        for (label, values) in
            [(label, middle), ("least", each(boots, least)), ("most", each(boots, most))]
        {
            let values =
                values.map(|value| value.map_or("-".into(), |value| format!("{value:.2}")));
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{}", line(label, image, values));
        }
    }
    out
}

fn divide(ours: Values, theirs: Values) -> Values {
    let mut ratios = [None; COLUMNS.len()];
    for (ratio, (ours, theirs)) in ratios.iter_mut().zip(ours.iter().zip(theirs)) {
        *ratio = ours.zip(theirs).map(|(ours, theirs)| ours / theirs);
    }
    ratios
}

fn line(round: &str, image: &str, values: [String; COLUMNS.len()]) -> String {
    let mut out = format!("{round:<8}{image:<11}");
    for value in values {
        let _ = write!(out, "{value:>11}");
    }
    out
}

/// Returns one figure for each column, or nothing if a boot lacks it.
fn each(boots: &[Values], figure: fn(Vec<f64>) -> Option<f64>) -> Values {
    let mut figures = [None; COLUMNS.len()];
    for (column, found) in figures.iter_mut().enumerate() {
        let values: Option<Vec<f64>> = boots.iter().map(|boot| boot[column]).collect();
        *found = values.and_then(figure);
    }
    figures
}

fn least(values: Vec<f64>) -> Option<f64> {
    values.into_iter().min_by(f64::total_cmp)
}

fn most(values: Vec<f64>) -> Option<f64> {
    values.into_iter().max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn times(pod: f64) -> Times {
        Times {
            init: 3.0,
            containerd: 6.0,
            kubelet: 10.0,
            pod,
            whole: pod + 6.5,
            ..Times::default()
        }
    }

    #[test]
    fn the_summary_has_medians_with_their_spread() {
        let rows =
            [[times(13.0), times(10.0)], [times(99.0), times(9.0)], [times(14.0), times(10.5)]];
        expect![[r"
            median  floor             3.00          -       6.00      10.00      14.00      20.50          -          -
            least   floor             3.00          -       6.00      10.00      13.00      19.50          -          -
            most    floor             3.00          -       6.00      10.00      99.00     105.50          -          -
            median  kiln              3.00          -       6.00      10.00      10.00      16.50          -          -
            least   kiln              3.00          -       6.00      10.00       9.00      15.50          -          -
            most    kiln              3.00          -       6.00      10.00      10.50      17.00          -          -
            ratio   kiln/floor        1.00          -       1.00       1.00       0.71       0.80          -          -
            least   kiln/floor        1.00          -       1.00       1.00       0.09       0.15          -          -
            most    kiln/floor        1.00          -       1.00       1.00       0.77       0.85          -          -
        "]]
        .assert_eq(&summary(FLOOR, &rows));
    }

    #[test]
    fn a_figure_that_one_boot_lacks_is_left_out() {
        let with = Times { memory: Some(150.0), ..times(10.0) };
        let summary = summary(OTHER, &[[with, with], [with, times(10.0)]]);
        let last = |label: &str| {
            let mut lines = summary.lines().filter(|line| line.starts_with(label));
            lines.next().unwrap().split_whitespace().nth_back(1).unwrap().to_owned()
        };
        assert_eq!(last("median  other"), "150.00");
        assert_eq!(last("median  kiln"), "-");
        assert_eq!(last("ratio"), "-");
    }

    #[test]
    fn heading_and_rows_have_the_same_columns() {
        assert_eq!(heading().len(), row("1", FLOOR, &times(1.0)).len());
    }
}
