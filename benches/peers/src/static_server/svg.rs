//! The picture for the documents: processor time per request, one group of bars for each case.

use kiln_host::svg::{Bar, FLOOR, OTHERS, OURS, Picture, WIDTH};

use super::table::{OfCase, Results, Row};

/// The pixel at which labels end and bars begin.
const LABELS: f64 = 180.0;

/// The space right of the longest bar for its number.
const NUMBERS: f64 = 80.0;

/// Draws all cases below one another.
pub fn render(results: &Results) -> String {
    let mut picture = Picture::default();
    for of in results.cases() {
        group(&mut picture, of);
    }
    picture.finish("Processor time of web servers for each request, in microseconds")
}

fn group(picture: &mut Picture, of: &OfCase) {
    let rows = of.rows();
    let longest = rows.iter().map(|row| row.median.cost).fold(f64::MIN_POSITIVE, f64::max);
    picture.title(&format!("{}: CPU µs per request", of.case.name));
    for row in &rows {
        bar(picture, row, (WIDTH - LABELS - NUMBERS) / longest);
    }
    picture.skip(4.0);
}

fn bar(picture: &mut Picture, row: &Row, scale: f64) {
    let colour = match row.kind {
        kind if kind.is_ours() => OURS,
        kind if kind.is_floor() => FLOOR,
        _ => OTHERS,
    };
    let cost = row.median.cost;
    let (to, number) = (LABELS + cost * scale, format!("{cost:.1}"));
    picture.bar(LABELS, Bar { label: row.kind.name(), from: LABELS, to, number: &number, colour });
}
