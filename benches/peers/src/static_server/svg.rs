//! The picture for the documents: processor time per request, one group of bars for each case.

use std::fmt::Write;

use super::table::{OfCase, Results, Row};

/// Pixels.
const WIDTH: f64 = 760.0;
const LABEL: f64 = 180.0;
const BAR: f64 = 18.0;
const TITLE: f64 = 34.0;

/// Room right of the longest bar for its number.
const NUMBER: f64 = 80.0;

/// Draws all cases below one another.
pub fn render(results: &Results) -> String {
    let mut body = String::new();
    let mut top = 0.0;
    for of in results.cases() {
        top = group(&mut body, of, top);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{top}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>Processor time of web servers for each request, in microseconds</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
    )
}

/// One case; returns where it ends. Writing to a string cannot fail.
fn group(out: &mut String, of: &OfCase, top: f64) -> f64 {
    let rows = of.rows();
    let most = rows.iter().map(|row| row.median.cost).fold(f64::MIN_POSITIVE, f64::max);
    let _ = writeln!(
        out,
        "<text x=\"8\" y=\"{}\" font-weight=\"bold\">{}: CPU µs per request</text>",
        top + TITLE - 10.0,
        of.case.name
    );
    let mut y = top + TITLE;
    for row in &rows {
        bar(out, row, y, (WIDTH - LABEL - NUMBER) / most);
        y += BAR;
    }
    y + 4.0
}

fn bar(out: &mut String, row: &Row, y: f64, scale: f64) {
    let colour = match row.kind {
        kind if kind.is_ours() => "#1b6ac9",
        kind if kind.is_floor() => "#bbb",
        _ => "#777",
    };
    let (width, text) = (row.median.cost * scale, y + BAR - 6.0);
    let _ = writeln!(
        out,
        "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}</text>\
         <rect x=\"{LABEL}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"/>\
         <text x=\"{:.1}\" y=\"{text}\">{:.1}</text>",
        LABEL - 8.0,
        row.kind.name(),
        BAR - 4.0,
        LABEL + width + 6.0,
        row.median.cost
    );
}
