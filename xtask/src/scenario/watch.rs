//! What the console of a running machine must and must not say.

use anyhow::{Context, Error, Result, ensure};

use crate::qemu::Line;

use super::data::{Elapsed, Said, Scenario};

/// The console of one boot, as it is read.
#[derive(Debug, Default)]
pub struct Watch {
    lines: Vec<Line>,
    /// How far the scenario's `console` steps have come.
    matched: usize,
}

impl Watch {
    /// Takes new lines; why the scenario has failed, if they say so.
    pub fn take(&mut self, scenario: &Scenario, lines: Vec<Line>) -> Option<String> {
        let is_lost = |line: &Line| line.is_fatal() && !scenario.crashes;
        let bad = |line: &&Line| {
            is_lost(line) || scenario.forbid.iter().any(|text| line.text.contains(text))
        };
        let found = lines.iter().find(bad).map(|line| {
            let what =
                if is_lost(line) { "the kernel is lost" } else { "the console must not say" };
            format!("{what}: {}", line.text)
        });
        self.lines.extend(lines);
        found
    }

    /// Goes on to the line after the next one that `wanted` accepts; whether there was one.
    pub fn find(&mut self, wanted: impl Fn(&Line) -> bool) -> bool {
        let found = self.lines[self.matched..].iter().position(wanted);
        self.matched = found.map_or(self.matched, |at| self.matched + at + 1);
        found.is_some()
    }

    /// Whether a line came soon enough after another one, by the kernel's clock.
    pub fn elapsed(&self, bounds: &Elapsed) -> Result<()> {
        let Elapsed { from, to, within_millis } = bounds;
        let find = |lines: &[Line], text: &str| {
            let at = lines.iter().rposition(|line| line.text.contains(text));
            let at = at.with_context(|| format!("the console does not say {text:?}"))?;
            Ok::<_, Error>((at, lines[at].stamp.with_context(|| format!("{text:?} has no stamp"))?))
        };
        let (at, end) = find(&self.lines, to)?;
        let (_, start) = find(&self.lines[..at], from)?;
        let millis = end.saturating_sub(start).as_millis();
        ensure!(
            millis <= u128::from(*within_millis),
            "{to:?} came {millis} ms after {from:?}, not within {within_millis}"
        );
        Ok(())
    }

    /// Whether so many lines have a text, by now.
    pub fn said(&self, said: &Said) -> Result<()> {
        let Said { text, times } = said;
        let count = self.count(text);
        ensure!(count == *times, "{count} lines of the console say {text:?}, {times} must");
        Ok(())
    }

    fn count(&self, text: &str) -> usize {
        self.lines.iter().filter(|line| line.text.contains(text)).count()
    }

    /// What is missing or there twice at the end of a boot.
    pub fn verdict(&self, scenario: &Scenario) -> std::result::Result<(), String> {
        for text in &scenario.once {
            let count = self.count(text);
            if count != 1 {
                return Err(format!("{count} lines of the console say {text:?}, one must"));
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
    fn a_required_line_must_be_there_once() {
        assert_eq!(verdict(&["a", "up", "b"]), Ok(()));
        assert!(verdict(&["a"]).unwrap_err().starts_with("0 lines"));
        assert!(verdict(&["up", "up"]).unwrap_err().starts_with("2 lines"));
    }

    #[test]
    fn lines_are_counted_as_they_come() {
        let mut watch = Watch::default();
        let said = |watch: &Watch, times| watch.said(&Said { text: "a".into(), times }).is_ok();
        assert!(said(&watch, 0) && !said(&watch, 1));
        watch.take(&scenario(), lines(&["xay", "b", "a"]));
        assert!(said(&watch, 2) && !said(&watch, 1));
    }

    #[test]
    fn a_forbidden_line_and_a_panic_end_it() {
        let take = |text| Watch::default().take(&scenario(), lines(&["a", text]));
        assert!(take("something bad").unwrap().contains("must not say"));
        assert!(take("Kernel panic - not syncing").unwrap().contains("kernel is lost"));
        assert_eq!(take("good"), None);
    }

    #[test]
    fn the_time_between_two_lines_is_the_kernels() {
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
        assert!(check("a", "c", 1).unwrap_err().contains("does not say \"c\""));
        assert!(check("b", "b", 1).unwrap_err().contains("does not say \"b\""));
    }

    #[test]
    fn console_steps_go_forward_only() {
        let mut watch = Watch::default();
        watch.take(&scenario(), lines(&["one", "two", "one"]));
        let mut find = |text: &str| watch.find(|line| line.text == text);
        assert!(find("two") && find("one"));
        assert!(!find("two") && !find("one"));
    }
}
