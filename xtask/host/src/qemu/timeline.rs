//! The timeline of a boot, from QEMU's start to the first answer of a pod.
//!
//! Each time is the host's, taken when a line arrived, a few milliseconds after it was written. The
//! kernel's timestamps only show when its clock started. Under emulation on a busy host that clock may
//! run several times too fast or too slow, so only the first lines count. Answers of pods are late by
//! up to one polling interval and the round trip.

mod picture;

use std::fmt::Write;
use std::time::Duration;

use kiln_contract::console::Event;

use super::console::Line;

/// OVMF's messages before it reads the boot file, and before it starts it (edk2, `BdsDxe`).
const LOADING: &str = "BdsDxe: loading ";
const STARTING: &str = "BdsDxe: starting ";

/// The time after the first line with a timestamp during which the kernel's clock counts as exact.
const EARLY: Duration = Duration::from_secs(2);

/// The width of the longest bar, in columns.
const BAR: u32 = 40;

/// One part of the boot, in host time from QEMU's start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The name of the part.
    pub name: String,
    /// The start.
    pub from: Duration,
    /// The end.
    pub to: Duration,
}

/// A pod's first answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The URL that answered.
    pub url: String,
    /// The time on the host's clock since QEMU's start.
    pub at: Duration,
}

/// The parts of one boot.
#[derive(Debug, PartialEq, Eq)]
pub struct Timeline {
    spans: Vec<Span>,
    /// The start of the kernel's clock.
    kernel: Option<Duration>,
    first_answer: Option<Duration>,
}

impl Timeline {
    /// Makes the timeline from a boot's console.
    #[must_use]
    pub fn new(lines: &[Line], answers: &[Answer]) -> Self {
        let kernel = kernel_start(lines);
        let mut spans = firmware(lines, kernel);
        if let Some(kernel) = kernel {
            spans.extend(guest(lines, kernel));
        }
        let ready =
            spans.iter().filter(|span| span.name.ends_with("ready")).map(|span| span.to).max();
        for Answer { url, at } in answers {
            // The wait for an answer begins when the last service is ready, unless it came before that.
            let from = ready.or(kernel).unwrap_or_default().min(*at);
            spans.push(Span { name: format!("{url} answers"), from, to: *at });
        }
        Self { spans, kernel, first_answer: answers.iter().map(|answer| answer.at).min() }
    }

    /// Renders the timeline as a table with bars.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = table("boot timeline", &self.spans);
        if let (Some(kernel), Some(answer)) = (self.kernel, self.first_answer) {
            let seconds = answer.saturating_sub(kernel).as_secs_f64();
            let _ = writeln!(out, "kernel's start to the first pod's answer: {seconds:.2} s");
        }
        out
    }
}

/// Renders parts as a table with bars; the title is the first word of its head.
#[must_use]
pub fn table(title: &str, spans: &[Span]) -> String {
    let end = spans.iter().map(|span| span.to).max().unwrap_or_default();
    let names = spans.iter().map(|span| span.name.chars().count());
    let width = names.max().unwrap_or_default().max(title.chars().count());
    let mut out = format!("{title:width$}  {:>8}  {:>8}\n", "from s", "took s");
    for span in spans {
        let took = span.to.saturating_sub(span.from);
        let (skip, bar) = (columns(span.from, end), columns(span.to, end));
        let bar = format!("{}{}", " ".repeat(skip), "█".repeat(bar.saturating_sub(skip).max(1)));
        let (from, took) = (span.from.as_secs_f64(), took.as_secs_f64());
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{:width$}  {from:>8.2}  {took:>8.2}  {bar}", span.name);
    }
    out
}

/// Converts a time to columns; the bar's length is the whole boot.
fn columns(at: Duration, end: Duration) -> usize {
    let (at, end) = (at.as_millis(), end.as_millis().max(1));
    usize::try_from(at * u128::from(BAR) / end).unwrap_or_default()
}

/// Returns the start of the kernel's clock, in host time from QEMU's start.
///
/// The kernel keeps its first lines until it has a console, so the first line arrives late. The line
/// with the shortest delay counts.
#[must_use]
pub fn kernel_start(lines: &[Line]) -> Option<Duration> {
    let first = lines.iter().find(|line| line.stamp.is_some())?.at;
    let early = lines.iter().take_while(|line| line.at <= first + EARLY);
    early.filter_map(|line| line.at.checked_sub(line.stamp?)).min()
}

fn firmware(lines: &[Line], kernel: Option<Duration>) -> Vec<Span> {
    let find = |text| lines.iter().find(|line| line.text.starts_with(text)).map(|line| line.at);
    let marks = [
        ("firmware", find(LOADING)),
        ("firmware loads the file", find(STARTING)),
        ("EFI stub", kernel),
    ];
    let mut from = Duration::ZERO;
    let mut spans = Vec::new();
    for (name, to) in marks {
        let Some(to) = to else { continue };
        spans.push(Span { name: name.to_owned(), from, to: to.max(from) });
        from = to.max(from);
    }
    spans
}

fn guest(lines: &[Line], kernel: Duration) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut starting: Vec<(String, Duration)> = Vec::new();
    for line in lines {
        let Some(event) = line.event() else { continue };
        let at = line.at;
        match event {
            Event::Stage { name, millis } => {
                let from = at.saturating_sub(Duration::from_millis(millis)).max(kernel);
                if spans.is_empty() {
                    spans.push(Span { name: "kernel".to_owned(), from: kernel, to: from });
                }
                spans.push(Span { name: format!("init: {name}"), from, to: at });
            }
            Event::Started { service, attempt: 1 } => starting.push((service, at)),
            Event::Ready { service } => {
                // Only the first start counts; a restart is not part of the boot.
                if let Some(found) = starting.iter().position(|(name, _)| *name == service) {
                    let (service, from) = starting.swap_remove(found);
                    spans.push(Span { name: format!("{service} ready"), from, to: at });
                }
            }
            Event::Started { .. }
            | Event::Hung { .. }
            | Event::Failing { .. }
            | Event::NotStarted { .. }
            | Event::Down { .. } => {}
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn lines(raw: &[(u64, &str)]) -> Vec<Line> {
        raw.iter()
            .map(|(millis, text)| Line::parse(Duration::from_millis(*millis), text.as_bytes()))
            .collect()
    }

    fn boot() -> Vec<Line> {
        lines(&[
            (2000, "BdsDxe: loading Boot0001"),
            (4000, "BdsDxe: starting Boot0001"),
            (9100, "[    3.000000] kiln: stage mounts took 100 ms"),
            (9400, "[    3.400000] kiln: stage root took 300 ms"),
            (9600, "[    3.500000] kiln: containerd started, attempt 1"),
            (11000, "[    5.000000] kiln: containerd is ready"),
            (12000, "[    6.000000] kiln: containerd started, attempt 2"),
            (13000, "[    7.000000] kiln: containerd is ready"),
        ])
    }

    #[test]
    #[expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]
    fn the_parts_of_a_boot_are_shown_in_order_with_their_durations() {
        let answers =
            [Answer { url: "http://127.0.0.1:8080/".into(), at: Duration::from_secs(16) }];
        let expected = expect![[r#"
            boot timeline                     from s    took s
            firmware                            0.00      2.00  █████
            firmware loads the file             2.00      2.00       █████
            EFI stub                            4.00      2.00            █████
            kernel                              6.00      3.00                 ███████
            init: mounts                        9.00      0.10                        █
            init: root                          9.10      0.30                        █
            containerd ready                    9.60      1.40                          ███
            http://127.0.0.1:8080/ answers     11.00      5.00                             █████████████
            kernel's start to the first pod's answer: 10.00 s
        "#]];
        let shown = Timeline::new(&boot(), &answers).render();
        expected.assert_eq(&shown);
    }

    #[test]
    fn a_clock_that_drifts_later_does_not_move_the_kernels_start() {
        let lines = lines(&[
            (5000, "[    1.000000] a"),
            (5100, "[    1.200000] b"),
            (9000, "[    9.000000] twice as fast"),
        ]);
        assert_eq!(kernel_start(&lines), Some(Duration::from_millis(3900)));
    }

    #[test]
    fn late_lines_do_not_move_the_kernels_start() {
        assert_eq!(kernel_start(&boot()), Some(Duration::from_secs(6)));
    }

    #[test]
    fn a_boot_that_stops_in_the_firmware_has_a_timeline_too() {
        let shown = Timeline::new(&lines(&[(2000, "BdsDxe: loading Boot0001")]), &[]).render();
        assert!(shown.contains("firmware") && !shown.contains("kernel"), "{shown}");
        assert!(Timeline::new(&[], &[]).render().starts_with("boot timeline"));
    }
}
