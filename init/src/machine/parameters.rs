//! The kernel's command line, as far as it concerns Kiln: `kiln.NAME=VALUE`.
//!
//! [`kiln_contract::setting`] has the names and the valid values; this parser knows only the table.

use kiln_contract::setting::{PARAMETERS, PREFIX, Parameter};

/// Parameters that make other systems start another program or another root.
const FOREIGN: [&str; 7] = ["init", "root", "rootflags", "single", "emergency", "rescue", "S"];

/// Prefixes of such parameters.
const FOREIGN_PREFIXES: [&str; 2] = ["systemd.", "rd."];

/// The only PID 1 of the archive.
const RDINIT: &str = "rdinit=/init";

/// The parameters of one command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    /// Names and valid values, in the order of the command line.
    given: Vec<(&'static str, String)>,
    /// Lines for the console: unknown names, invalid values, parameters without effect.
    pub warnings: Vec<String>,
}

/// Returns the parameters of the running kernel.
#[must_use]
pub fn of_kernel() -> Parameters {
    parse(&std::fs::read_to_string("/proc/cmdline").unwrap_or_default())
}

/// Parses a command line. If a parameter is repeated, the last valid value wins, as in the kernel.
#[must_use]
pub fn parse(line: &str) -> Parameters {
    let mut parameters = Parameters::default();
    for word in words(line) {
        if word == "--" {
            parameters.warnings.push("arguments for PID 1 (after --) are ignored".into());
            break;
        }
        let (name, value) = word.split_once('=').unwrap_or((&word, ""));
        if name.starts_with(PREFIX) {
            parameters.take(name, value);
        } else if is_foreign(name) || (name == "rdinit" && word != RDINIT) {
            let text = format!("parameter {word} has no effect: there is one PID 1 and one root");
            parameters.warnings.push(text);
        }
    }
    parameters
}

fn is_foreign(name: &str) -> bool {
    FOREIGN.contains(&name) || FOREIGN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

impl Parameters {
    fn take(&mut self, name: &str, value: &str) {
        match PARAMETERS.iter().find(|parameter| parameter.name == name) {
            Some(parameter) if parameter.value.accepts(value) => {
                self.given.push((parameter.name, value.into()));
            }
            Some(_) => {
                self.warnings.push(format!("parameter {name}: invalid value {value:?}, ignored"));
            }
            None => self.warnings.push(format!("unknown parameter {name}, ignored")),
        }
    }

    /// Returns the value, if the command line has one.
    #[must_use]
    pub fn given(&self, parameter: &Parameter) -> Option<&str> {
        let given = self.given.iter().rev().find(|(name, _)| *name == parameter.name);
        given.map(|(_, value)| value.as_str())
    }

    /// Returns the value or the default.
    #[must_use]
    pub fn text(&self, parameter: &Parameter) -> &str {
        self.given(parameter).unwrap_or(parameter.default)
    }

    /// True if the value, or the default, is this word.
    #[must_use]
    pub fn is(&self, parameter: &Parameter, word: &str) -> bool {
        self.text(parameter) == word
    }

    /// Returns the value or the default of a number, 0 for any other parameter.
    #[must_use]
    pub fn number(&self, parameter: &Parameter) -> u64 {
        self.text(parameter).parse().unwrap_or_default()
    }
}

/// Splits at blanks outside double quotes and drops the quotes (the kernel's lib/cmdline.c).
#[must_use]
pub fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_ascii_whitespace() && !quoted => words.push(String::new()),
            c => words.last_mut().into_iter().for_each(|word| word.push(c)),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use kiln_contract::setting::{
        CURE_REBOOTS, HOSTNAME, LOCK_MODULES, LOG, NVRAM, PARAMETERS, POD_LOG_SIZE, SHUTDOWN_MAX,
        TRIAL, VAR_SIZE, Value,
    };
    use proptest::prelude::*;

    use super::{Parameters, parse, words};

    #[test]
    fn known_parameters_are_taken_and_the_last_value_wins() {
        let found =
            parse("quiet kiln.var-size=1g kiln.hostname=a kiln.hostname=\"b\" kiln.log=console\n");
        assert_eq!((found.text(&VAR_SIZE), found.given(&HOSTNAME)), ("1g", Some("b")));
        assert!(found.is(&LOG, "console") && found.warnings.is_empty());
    }

    #[test]
    fn an_invalid_value_is_a_warning_and_leaves_the_default() {
        let found = parse("kiln.shutdown-max=90000 kiln.nvram=on kiln.cure-reboots=256");
        assert_eq!((found.number(&SHUTDOWN_MAX), found.number(&CURE_REBOOTS)), (600, 0));
        assert_eq!(found.warnings.len(), 3);
        assert!(!found.is(&NVRAM, "off") && parse("kiln.nvram=off").is(&NVRAM, "off"));
        assert_eq!(found.warnings[1], "parameter kiln.nvram: invalid value \"on\", ignored");
    }

    #[test]
    fn an_unknown_name_is_a_warning() {
        let found = parse("kiln.hostnme=a kiln.var-size=10gg kiln.log=file kiln.");
        assert_eq!((found.text(&VAR_SIZE), found.warnings.len()), ("50%", 4));
        assert_eq!(found.warnings[0], "unknown parameter kiln.hostnme, ignored");
    }

    #[test]
    fn a_trial_and_a_lock_need_the_exact_word() {
        assert!(parse("kiln.trial=1").is(&TRIAL, "1"));
        assert!(!parse("kiln.trial=yes").is(&TRIAL, "1"));
        assert!(!parse("kiln.lock-modules=yes kiln.lock-modules=no").is(&LOCK_MODULES, "yes"));
        assert!(!parse("kiln.lock-modules=1").is(&LOCK_MODULES, "yes"));
    }

    #[test]
    fn missing_parameters_have_their_defaults() {
        let found = parse("quiet xkiln.y=z");
        assert_eq!(found, Parameters::default());
        assert_eq!((found.text(&VAR_SIZE), found.text(&POD_LOG_SIZE)), ("50%", "5%"));
        assert_eq!(found.given(&HOSTNAME), None);
    }

    #[test]
    fn parameters_that_would_start_another_program_are_reported() {
        let found = parse("init=/bin/sh single rdinit=/init systemd.unit=rescue.target -- kiln.x");
        assert_eq!(found.warnings.len(), 4, "{:?}", found.warnings);
        assert!(found.warnings[0].starts_with("parameter init=/bin/sh has no effect"));
        assert!(found.warnings[3].contains("after --"));
    }

    proptest! {
        #[test]
        fn every_parameter_has_a_valid_value_after_any_line(line in ".{0,200}") {
            let found = parse(&line);
            for parameter in PARAMETERS {
                let text = found.text(&parameter);
                prop_assert!(text == parameter.default || parameter.value.accepts(text));
            }
            prop_assert!(found.warnings.len() <= words(&line).len());
        }

        #[test]
        fn a_valid_value_is_taken_after_any_other_words(
            line in "[^\"]{0,100}",
            value in "[^\"\\s]{1,20}",
            index in 0..PARAMETERS.len(),
        ) {
            prop_assume!(!words(&line).iter().any(|word| word == "--"));
            let parameter = PARAMETERS[index];
            let value = match parameter.value {
                Value::Text => value,
                Value::Size => "7m".into(),
                Value::Number(max) => max.to_string(),
                Value::Word(words) => words[0].into(),
            };
            let found = parse(&format!("{line} {}={value}", parameter.name));
            prop_assert_eq!(found.given(&parameter), Some(value.as_str()));
        }
    }
}
