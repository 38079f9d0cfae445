//! What the console of a running machine must and must not say.

use crate::qemu::Line;

use super::data::Scenario;

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
        let bad = |line: &&Line| {
            line.is_fatal() || scenario.forbid.iter().any(|text| line.text.contains(text))
        };
        let found = lines.iter().find(bad).map(|line| {
            let what =
                if line.is_fatal() { "the kernel is lost" } else { "the console must not say" };
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

    /// What is missing or there twice at the end of a boot.
    pub fn verdict(&self, scenario: &Scenario) -> Result<(), String> {
        for text in &scenario.once {
            let count = self.lines.iter().filter(|line| line.text.contains(text)).count();
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
                    [[step]]\nboot = \"b\"\n[[step]]\npower-cut = true\n";
        Scenario::parse(text, Path::new("x.toml")).unwrap()
    }

    fn lines(texts: &[&str]) -> Vec<Line> {
        texts.iter().map(|text| Line::parse(Duration::ZERO, text.as_bytes())).collect()
    }

    fn verdict(texts: &[&str]) -> Result<(), String> {
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
    fn a_forbidden_line_and_a_panic_end_it() {
        let take = |text| Watch::default().take(&scenario(), lines(&["a", text]));
        assert!(take("something bad").unwrap().contains("must not say"));
        assert!(take("Kernel panic - not syncing").unwrap().contains("kernel is lost"));
        assert_eq!(take("good"), None);
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
