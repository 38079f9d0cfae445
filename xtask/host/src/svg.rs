//! Pictures of horizontal bars, for the documents.
//!
//! Format: SVG 1.1 with inline attributes only, because GitHub shows pictures without their scripts
//! and style sheets. The background is white, so that the text is readable on a dark page.

use std::fmt::Write;

/// The colour of our own bars.
pub const OURS: &str = "#1b6ac9";
/// The colour of a lower bound.
pub const FLOOR: &str = "#bbb";
/// The colour of everything else.
pub const OTHERS: &str = "#777";

/// The width of a picture in pixels.
pub const WIDTH: f64 = 760.0;

/// The space between the left edge and a title.
const MARGIN: f64 = 8.0;

/// The distance from a bar's end to its text.
const GAP: f64 = 6.0;

/// The height of a bar with the space below it.
pub const ROW: f64 = 18.0;

/// The side of a bar's row that holds its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture that grows downwards.
#[derive(Debug, Default)]
pub struct Picture {
    /// Lines that bars are drawn over.
    under: String,
    body: String,
    /// The height so far, in pixels.
    height: f64,
}

/// One bar: pixels from the left edge, and texts.
#[derive(Debug, Clone, Copy)]
pub struct Bar<'a> {
    /// The text left of the bars.
    pub label: &'a str,
    /// The bar's left end.
    pub from: f64,
    /// The bar's right end.
    pub to: f64,
    /// The text right of the bar.
    pub number: &'a str,
    /// A colour in CSS notation.
    pub colour: &'a str,
}

impl Picture {
    /// The height so far, in pixels.
    #[must_use]
    pub fn height(&self) -> f64 {
        self.height
    }

    /// Leaves space.
    pub fn skip(&mut self, pixels: f64) {
        self.height += pixels;
    }

    /// Adds a line of bold text.
    pub fn title(&mut self, text: &str) {
        self.height += 34.0;
        let y = self.height - 10.0;
        // Writing to a string cannot fail.
        let _ = writeln!(
            self.body,
            "<text x=\"{MARGIN}\" y=\"{y}\" font-weight=\"bold\">{}</text>",
            escaped(text)
        );
    }

    /// Adds a bar; labels end at the pixel `labels`.
    pub fn bar(&mut self, labels: f64, bar: Bar<'_>) {
        let (y, text) = (self.height, self.height + ROW - GAP);
        let width = (bar.to - bar.from).max(1.0);
        self.text(labels - MARGIN, text, Anchor::End, bar.label);
        let _ = writeln!(
            self.body,
            "<rect x=\"{:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{}\"/>",
            bar.from,
            ROW - 4.0,
            bar.colour
        );
        self.text(bar.from + width + GAP, text, Anchor::Start, bar.number);
        self.height += ROW;
    }

    /// Adds a scale: a thin line from `top` to here and a text at each mark (pixel, text).
    pub fn scale(&mut self, top: f64, marks: &[(f64, String)]) {
        for (x, text) in marks {
            let _ = writeln!(
                self.under,
                "<line x1=\"{x:.1}\" y1=\"{top}\" x2=\"{x:.1}\" y2=\"{}\" stroke=\"#ddd\"/>",
                self.height
            );
            self.text(*x, self.height + ROW - GAP, Anchor::Middle, text);
        }
        self.height += ROW;
    }

    fn text(&mut self, x: f64, y: f64, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let _ =
            writeln!(self.body, "<text x=\"{x:.1}\" y=\"{y:.1}\"{anchor}>{}</text>", escaped(text));
    }

    /// The whole file; `title` is its description for people who cannot see it.
    #[must_use]
    pub fn finish(self, title: &str) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{0}\" \
             viewBox=\"0 0 {WIDTH} {0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <title>{1}</title>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{2}{3}</svg>\n",
            self.height + 4.0,
            escaped(title),
            self.under,
            self.body
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn a_picture_has_its_bars_in_order_and_escapes_texts() {
        let mut picture = Picture::default();
        picture.title("a < b");
        let bar = Bar { label: "x", from: 100.0, to: 150.0, number: "5", colour: OURS };
        picture.bar(90.0, bar);
        picture.scale(34.0, &[(100.0, "0 s".to_owned())]);
        expect![[r##"
            <svg xmlns="http://www.w3.org/2000/svg" width="760" height="74" viewBox="0 0 760 74" font-family="sans-serif" font-size="12">
            <title>a &amp; b</title>
            <rect width="100%" height="100%" fill="#fff"/>
            <line x1="100.0" y1="34" x2="100.0" y2="52" stroke="#ddd"/>
            <text x="8" y="24" font-weight="bold">a &lt; b</text>
            <text x="82.0" y="46.0" text-anchor="end">x</text>
            <rect x="100.0" y="34" width="50.0" height="14" fill="#1b6ac9"/>
            <text x="156.0" y="46.0">5</text>
            <text x="100.0" y="64.0" text-anchor="middle">0 s</text>
            </svg>
        "##]].assert_eq(&picture.finish("a & b"));
    }
}
