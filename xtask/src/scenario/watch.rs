//! The console of one boot, and the texts that it must and must not contain.

use anyhow::{Context, Error, Result, ensure};

use crate::qemu::Line;

use super::data::Scenario;
use super::instruction::{Elapsed, Said};

/// The console lines of one boot so far.
#[derive(Debug, Default)]
pub struct Watch {
    lines: Vec<Line>,
    /// The number of lines up to the one that the last `console` instruction found.
    matched: usize,
}

impl Watch {
    /// Adds new lines; returns the reason if one of them fails the scenario.
    pub fn take(&mut self, scenario: &Scenario, lines: Vec<Line>) -> Option<String> {
        let is_lost = |line: &Line| line.is_fatal() && !scenario.crashes;
        let bad = |line: &&Line| {
            is_lost(line) || scenario.forbid.iter().any(|text| line.text.contains(text))
        };
        let found = lines.iter().find(bad).map(|line| {
            let what = if is_lost(line) { "the kernel crashed" } else { "a forbidden line" };
            format!("{what}: {}", line.text)
        });
        self.lines.extend(lines);
        found
    }

    /// Moves past the next line that `wanted` accepts; false if there is no such line yet.
    pub fn find(&mut self, wanted: impl Fn(&Line) -> bool) -> bool {
        let found = self.lines[self.matched..].iter().position(wanted);
        self.matched = found.map_or(self.matched, |at| self.matched + at + 1);
        found.is_some()
    }

    /// Checks that a line came soon enough after another one, by the kernel's clock.
    pub fn elapsed(&self, bounds: &Elapsed) -> Result<()> {
        let Elapsed { from, to, within_millis } = bounds;
        let find = |lines: &[Line], text: &str| {
            let at = lines.iter().rposition(|line| line.text.contains(text));
            let at = at.with_context(|| format!("no console line has {text:?}"))?;
            Ok::<_, Error>((
                at,
                lines[at]
                    .stamp
                    .with_context(|| format!("the line with {text:?} has no timestamp"))?,
            ))
        };
        let (at, end) = find(&self.lines, to)?;
        let (_, start) = find(&self.lines[..at], from)?;
        let millis = end.saturating_sub(start).as_millis();
        ensure!(
            millis <= u128::from(*within_millis),
            "{to:?} came {millis} ms after {from:?}, more than {within_millis} ms"
        );
        Ok(())
    }

    /// Checks the number of lines with a text.
    pub fn said(&self, said: &Said) -> Result<()> {
        let Said { text, times } = said;
        let count = self.count(text);
        ensure!(count == *times, "{count} console lines have {text:?}, expected {times}");
        Ok(())
    }

    fn count(&self, text: &str) -> usize {
        self.lines.iter().filter(|line| line.text.contains(text)).count()
    }

    /// Checks at the end of a boot that each text of `once` is on exactly one line.
    pub fn verdict(&self, scenario: &Scenario) -> std::result::Result<(), String> {
        for text in &scenario.once {
            let count = self.count(text);
            if count != 1 {
                return Err(format!("{count} console lines have {text:?}, expected 1"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    fn scenario() -> Scenario {
        let text = "about = \"x\"\nforbid = [\"bad\"]\nonce = [\"up\"]\n\
                    [[step]]\nboot = \"b\"\n[[step]]\ndown = \"power-off\"\n";
        Scenario::parse(text, Path::new("x.toml")).unwrap()
    }

    fn lines(texts: &[&str]) -> Vec<Line> {
        texts.iter().map(|text| Line::parse(Duration::ZERO, text.as_bytes())).collect()
    }

    fn verdict(texts: &[&str]) -> std::result::Result<(), String> {
        let mut watch = Watch::default();
        assert_eq!(watch.take(&scenario(), lines(texts)), None);
        watch.verdict(&scenario())
    }

    #[test]
    fn a_required_line_must_come_exactly_once() {
        assert_eq!(verdict(&["a", "up", "b"]), Ok(()));
        assert!(verdict(&["a"]).unwrap_err().starts_with("0 console lines"));
        assert!(verdict(&["up", "up"]).unwrap_err().starts_with("2 console lines"));
    }

    #[test]
    fn the_count_follows_new_lines() {
        let mut watch = Watch::default();
        let said = |watch: &Watch, times| watch.said(&Said { text: "a".into(), times }).is_ok();
        assert!(said(&watch, 0) && !said(&watch, 1));
        watch.take(&scenario(), lines(&["xay", "b", "a"]));
        assert!(said(&watch, 2) && !said(&watch, 1));
    }

    #[test]
    fn a_forbidden_line_or_a_panic_fails_the_scenario() {
        let take = |text| Watch::default().take(&scenario(), lines(&["a", text]));
        assert!(take("something bad").unwrap().contains("a forbidden line"));
        assert!(take("Kernel panic - not syncing").unwrap().contains("the kernel crashed"));
        assert_eq!(take("good"), None);
    }

    #[test]
    fn the_time_between_two_lines_is_measured_by_the_kernels_clock() {
        let mut watch = Watch::default();
        let texts =
            ["[    1.000000] a", "[    2.000000] a", "[    2.250000] b", "[    9.000000] a"];
        watch.take(&scenario(), lines(&texts));
        let check = |from: &str, to: &str, within_millis| {
            let bounds = Elapsed { from: from.into(), to: to.into(), within_millis };
            watch.elapsed(&bounds).map_err(|error| error.to_string())
        };
        assert_eq!(check("a", "b", 250), Ok(()));
        assert!(check("a", "b", 249).unwrap_err().contains("came 250 ms after"));
        assert!(check("a", "c", 1).unwrap_err().contains("no console line has \"c\""));
        assert!(check("b", "b", 1).unwrap_err().contains("no console line has \"b\""));
    }

    #[test]
    fn a_search_never_goes_back() {
        let mut watch = Watch::default();
        watch.take(&scenario(), lines(&["one", "two", "one"]));
        let mut find = |text: &str| watch.find(|line| line.text == text);
        assert!(find("two") && find("one"));
        assert!(!find("two") && !find("one"));
    }
}
