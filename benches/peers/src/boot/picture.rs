//! The picture for the documents: the marks of both boots, next to each other.

use kiln_host::svg::{Bar, FLOOR, OTHERS, OURS, Picture, WIDTH};

use super::table::{self, Times};
use crate::median::median;

/// The pixel at which labels end and bars begin.
const LABELS: f64 = 130.0;

/// The space right of the longest bar for its number.
const NUMBERS: f64 = 80.0;

/// A moment of the boot.
type Mark = (&'static str, fn(&Times) -> f64);

/// The moments that are drawn, in seconds since the kernel's start.
const MARKS: [Mark; 4] = [
    ("PID 1 starts", |times| times.init),
    ("containerd answers", |times| times.containerd),
    ("kubelet is healthy", |times| times.kubelet),
    ("the first pod answers", |times| times.pod),
];

/// Draws the medians of all rounds; each row has the peer's boot, then ours.
pub fn render(peer: &str, rows: &[[Times; 2]]) -> String {
    let of = |image: usize, value: fn(&Times) -> f64| {
        median(rows.iter().map(|row| value(&row[image])).collect()).unwrap_or_default()
    };
    let longest = rows.iter().flatten().map(|times| times.pod).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - LABELS - NUMBERS) / longest;
    let peer_name = if peer == table::FLOOR { "bare C init" } else { peer };
    let peer_colour = if peer == table::FLOOR { FLOOR } else { OTHERS };
    let mut picture = Picture::default();
    for (name, value) in MARKS {
        picture.title(&format!("{name}: seconds since the kernel's start"));
        for (label, image, colour) in [(peer_name, 0, peer_colour), ("Kiln", 1, OURS)] {
            let seconds = of(image, value);
            let (to, number) = (LABELS + seconds * scale, format!("{seconds:.2}"));
            picture.bar(LABELS, Bar { label, from: LABELS, to, number: &number, colour });
        }
    }
    picture.finish(&format!("The boot of Kiln next to that of a {peer_name}, medians in seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mark_has_a_bar_for_each_image() {
        let times =
            |pod| Times { init: 1.0, containerd: 2.0, kubelet: 3.0, pod, ..Times::default() };
        let text = render(table::FLOOR, &[[times(8.0), times(4.0)], [times(6.0), times(4.5)]]);
        assert_eq!(text.matches("<rect x=").count(), 2 * MARKS.len(), "{text}");
        assert!(text.contains(">7.00<") && text.contains(">4.25<"), "{text}");
        assert!(text.contains("bare C init"), "{text}");
    }
}
