//! The timeline as a picture for documents.

use std::time::Duration;

use super::{Span, Timeline};
use crate::svg::{Bar, FLOOR, OTHERS, OURS, Picture, WIDTH};

/// The pixel at which labels end and the time begins.
const LABELS: f64 = 230.0;

/// The space right of the longest bar for its number.
const NUMBERS: f64 = 60.0;

/// The largest number of marks on the scale; more would overlap.
const MARKS_MAX: u32 = 12;

impl Timeline {
    /// Draws the boot; each bar has the seconds that it took next to it.
    #[must_use]
    pub fn picture(&self) -> String {
        let end = self.spans.iter().map(|span| span.to).max().unwrap_or_default();
        let scale = (WIDTH - LABELS - NUMBERS) / end.as_secs_f64().max(f64::MIN_POSITIVE);
        let x = |at: Duration| LABELS + at.as_secs_f64() * scale;
        let mut picture = Picture::default();
        picture.title(&self.heading());
        let top = picture.height();
        for span in &self.spans {
            let number = format!("{:.2}", span.to.saturating_sub(span.from).as_secs_f64());
            let (from, to, colour) = (x(span.from), x(span.to), colour(span));
            picture.bar(LABELS, Bar { label: &span.name, from, to, number: &number, colour });
        }
        picture.scale(
            top,
            &marks(end).map(|at| (x(at), format!("{} s", at.as_secs()))).collect::<Vec<_>>(),
        );
        picture.finish("The stages of a boot in QEMU, in seconds since its start")
    }

    fn heading(&self) -> String {
        match (self.kernel, self.first_answer) {
            (Some(kernel), Some(answer)) => {
                let seconds = answer.saturating_sub(kernel).as_secs_f64();
                format!(
                    "A boot in QEMU: the first pod answers {seconds:.1} s after the kernel's start"
                )
            }
            _ => "A boot in QEMU".to_owned(),
        }
    }
}

/// Returns a bar's colour: PID 1's stages, services and pods, or firmware and kernel.
fn colour(span: &Span) -> &'static str {
    if span.name.starts_with("init:") {
        return OURS;
    }
    if span.name.ends_with("ready") || span.name.ends_with("answers") { OTHERS } else { FLOOR }
}

/// Whole seconds at an even distance.
fn marks(end: Duration) -> impl Iterator<Item = Duration> {
    let seconds = u32::try_from(end.as_secs()).unwrap_or(u32::MAX);
    let step = [1, 2, 5, 10, 20, 60].into_iter().find(|step| seconds / step < MARKS_MAX);
    let step = step.unwrap_or(seconds / MARKS_MAX + 1);
    (0..=seconds).step_by(step as usize).map(|second| Duration::from_secs(second.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_span_is_a_bar_in_the_picture() {
        let second = Duration::from_secs;
        let span = |name: &str, from, to| Span {
            name: name.to_owned(),
            from: second(from),
            to: second(to),
        };
        let timeline = Timeline {
            spans: vec![
                span("firmware", 0, 4),
                span("init: mounts", 4, 5),
                span("<x> answers", 5, 20),
            ],
            kernel: Some(second(3)),
            first_answer: Some(second(20)),
        };
        let text = timeline.picture();
        assert_eq!(text.matches("<rect x=").count(), 3, "{text}");
        assert!(text.contains("answers 17.0 s after") && text.contains("&lt;x&gt;"), "{text}");
        assert!(text.contains(">20 s<"), "{text}");
    }

    #[test]
    fn marks_are_few_and_start_at_zero() {
        for end in [0, 1, 7, 23, 60, 3600, u64::MAX] {
            let marks: Vec<_> = marks(Duration::from_secs(end)).take(100).collect();
            assert_eq!(marks[0], Duration::ZERO);
            assert!(marks.len() <= MARKS_MAX as usize + 1, "{end}: {}", marks.len());
        }
    }
}
