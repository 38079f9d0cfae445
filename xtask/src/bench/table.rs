//! The table: one row per boot, then medians and their ratios.

use std::fmt::Write;

/// Names of the two images.
pub const FLOOR: &str = "floor";
pub const OURS: &str = "kiln";

/// When a boot reached its marks, in seconds since the kernel's start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Times {
    /// PID 1's first line.
    pub init: f64,
    /// containerd answers.
    pub containerd: f64,
    /// kubelet is healthy.
    pub kubelet: f64,
    /// The pod's first HTTP 200.
    pub pod: f64,
    /// The same, since QEMU's start: with firmware and loading the file.
    pub whole: f64,
    /// Memory in use in MiB, where it was asked for.
    pub memory: Option<f64>,
}

impl Times {
    fn columns(&self) -> [Option<f64>; 6] {
        let Self { init, containerd, kubelet, pod, whole, memory } = *self;
        [Some(init), Some(containerd), Some(kubelet), Some(pod), Some(whole), memory]
    }
}

const COLUMNS: [&str; 6] = ["PID 1", "containerd", "kubelet", "pod", "from QEMU", "MiB in use"];

/// The first line.
pub fn heading() -> String {
    line("round", "image", COLUMNS.map(str::to_owned))
}

/// One boot.
pub fn row(round: &str, image: &str, times: &Times) -> String {
    line(
        round,
        image,
        times.columns().map(|value| value.map_or("-".into(), |value| format!("{value:.2}"))),
    )
}

/// Medians of both images, and ours divided by the floor's.
pub fn summary(rows: &[[Times; 2]]) -> String {
    let [floor, ours] = [0, 1].map(|image| medians(rows.iter().map(|row| row[image].columns())));
    let show = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.2}"));
    let mut ratios = [None; 6];
    for (ratio, (ours, floor)) in ratios.iter_mut().zip(ours.iter().zip(&floor)) {
        *ratio = ours.zip(*floor).map(|(ours, floor)| ours / floor);
    }
    let mut out = String::new();
    for (label, image, values) in
        [("median", FLOOR, floor), ("median", OURS, ours), ("ratio", "kiln/floor", ratios)]
    {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}", line(label, image, values.map(show)));
    }
    out
}

fn line(round: &str, image: &str, values: [String; 6]) -> String {
    let mut out = format!("{round:<8}{image:<11}");
    for value in values {
        let _ = write!(out, "{value:>11}");
    }
    out
}

/// The middle value of each column; none where a boot has none.
fn medians(rows: impl Iterator<Item = [Option<f64>; 6]>) -> [Option<f64>; 6] {
    let rows: Vec<_> = rows.collect();
    let mut medians = [None; 6];
    for (column, median) in medians.iter_mut().enumerate() {
        let values: Option<Vec<f64>> = rows.iter().map(|row| row[column]).collect();
        *median = values.and_then(middle);
    }
    medians
}

/// Of an even number of values the mean of the two in the middle.
pub fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let upper = *values.get(half)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[half - 1], upper) })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn times(pod: f64) -> Times {
        Times { init: 3.0, containerd: 6.0, kubelet: 10.0, pod, whole: pod + 6.5, memory: None }
    }

    #[test]
    fn the_summary_compares_medians() {
        let rows =
            [[times(13.0), times(10.0)], [times(99.0), times(9.0)], [times(14.0), times(10.5)]];
        expect![[r"
            median  floor             3.00       6.00      10.00      14.00      20.50          -
            median  kiln              3.00       6.00      10.00      10.00      16.50          -
            ratio   kiln/floor        1.00       1.00       1.00       0.71       0.80          -
        "]]
        .assert_eq(&summary(&rows));
    }

    #[test]
    fn heading_and_rows_have_the_same_columns() {
        assert_eq!(heading().len(), row("1", FLOOR, &times(1.0)).len());
    }

    #[test]
    fn the_middle_of_nothing_is_nothing() {
        assert_eq!(middle(Vec::new()), None);
        assert_eq!(middle(vec![4.0, 2.0]), Some(3.0));
        assert_eq!(middle(vec![9.0, 1.0, 2.0]), Some(2.0));
    }
}
