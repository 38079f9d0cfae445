//! The kernel's command line, as far as it is Kiln's: `kiln.NAME=VALUE`.

use std::time::Duration;

use kiln_contract::parameter::{
    ALL, CURE_REBOOTS, HOSTNAME, LOCK_MODULES, LOG, NVRAM, POD_LOG_SIZE, POD_LOG_SIZE_DEFAULT,
    PREFIX, SHUTDOWN_MAX, SHUTDOWN_MAX_DEFAULT, TRIAL, VAR_SIZE, VAR_SIZE_DEFAULT,
};

/// Parameters with which other systems are made to start something else, or from somewhere else.
const FOREIGN: [&str; 7] = ["init", "root", "rootflags", "single", "emergency", "rescue", "S"];

/// Beginnings of such parameters.
const FOREIGN_PREFIXES: [&str; 2] = ["systemd.", "rd."];

/// The only PID 1 of the archive.
const RDINIT: &str = "rdinit=/init";

/// What the command line says to Kiln.
#[derive(Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own on the command line")]
pub struct Parameters {
    /// Size of an in-memory `/var`, as tmpfs takes it.
    pub var_size: String,
    /// Size of the pods' logs beside an in-memory `/var`, as tmpfs takes it.
    pub pod_log_size: String,
    /// The node's name, not yet checked.
    pub hostname: Option<String>,
    /// Services' output goes to the console too.
    pub log_to_console: bool,
    /// Longest time that a shutdown waits for kubelet.
    pub shutdown_max: Duration,
    /// EFI variables may be written.
    pub nvram: bool,
    /// Modules are locked after the boot.
    pub lock_modules: bool,
    /// This boot is on trial.
    pub trial: bool,
    /// Reboots as a cure that are allowed in 24 hours.
    pub cure_reboots: u8,
    /// Lines for the console: unknown names and values that make no sense.
    pub warnings: Vec<String>,
}

/// Reads a command line. Of a parameter that comes twice the last one counts, as in the kernel.
#[must_use]
pub fn parse(line: &str) -> Parameters {
    let mut parameters = Parameters {
        var_size: VAR_SIZE_DEFAULT.into(),
        pod_log_size: POD_LOG_SIZE_DEFAULT.into(),
        hostname: None,
        log_to_console: false,
        shutdown_max: Duration::from_secs(SHUTDOWN_MAX_DEFAULT),
        nvram: true,
        lock_modules: false,
        trial: false,
        cure_reboots: 0,
        warnings: Vec::new(),
    };
    for word in words(line) {
        if word == "--" {
            parameters.warnings.push("arguments for PID 1 (after --), ignored".into());
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

/// What the running kernel was given.
#[must_use]
pub fn of_kernel() -> Parameters {
    parse(&std::fs::read_to_string("/proc/cmdline").unwrap_or_default())
}

fn is_foreign(name: &str) -> bool {
    FOREIGN.contains(&name) || FOREIGN_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

impl Parameters {
    fn take(&mut self, name: &str, value: &str) {
        match name {
            VAR_SIZE if is_size(value) => self.var_size = value.into(),
            POD_LOG_SIZE if is_size(value) => self.pod_log_size = value.into(),
            HOSTNAME => self.hostname = Some(value.into()),
            LOG if value == "console" => self.log_to_console = true,
            NVRAM if value == "off" => self.nvram = false,
            TRIAL if value == "1" => self.trial = true,
            SHUTDOWN_MAX if seconds(value).is_some() => {
                self.shutdown_max = seconds(value).unwrap_or_default();
            }
            LOCK_MODULES if value == "yes" || value == "no" => self.lock_modules = value == "yes",
            CURE_REBOOTS if value.parse::<u8>().is_ok() => {
                self.cure_reboots = value.parse().unwrap_or_default();
            }
            _ if ALL.contains(&name) => {
                self.warnings.push(format!("parameter {name} cannot be {value:?}, ignored"));
            }
            _ => self.warnings.push(format!("unknown parameter {name}, ignored")),
        }
    }
}

/// Whole seconds, a day at most.
fn seconds(value: &str) -> Option<Duration> {
    value.parse().ok().filter(|&seconds| seconds <= 86_400).map(Duration::from_secs)
}

/// A size as tmpfs takes it: digits, then nothing, a percent sign, or k, m, g.
fn is_size(value: &str) -> bool {
    let digits = value.trim_end_matches(['k', 'm', 'g', 'K', 'M', 'G', '%']);
    !digits.is_empty()
        && value.len() - digits.len() <= 1
        && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Splits at blanks outside of double quotes, and drops the quotes (kernel's lib/cmdline.c).
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
    use proptest::prelude::*;

    use super::parse;

    #[test]
    fn known_parameters_are_taken_and_the_last_one_counts() {
        let found =
            parse("quiet kiln.var-size=1g kiln.hostname=a kiln.hostname=\"b\" kiln.log=console\n");
        assert_eq!((found.var_size.as_str(), found.hostname.as_deref()), ("1g", Some("b")));
        assert!(found.log_to_console && found.warnings.is_empty());
    }

    #[test]
    fn the_longest_wait_is_in_whole_seconds_of_a_day_at_most() {
        assert_eq!(parse("kiln.shutdown-max=90").shutdown_max.as_secs(), 90);
        let found = parse("kiln.shutdown-max=90000 kiln.nvram=on");
        assert_eq!((found.shutdown_max.as_secs(), found.warnings.len()), (600, 2));
        assert!(found.nvram && !parse("kiln.nvram=off").nvram);
    }

    #[test]
    fn an_unknown_name_and_a_bad_value_are_warnings() {
        let found = parse("kiln.hostnme=a kiln.var-size=10gg kiln.log=file kiln.");
        assert_eq!(found.var_size, "50%");
        assert_eq!(found.warnings.len(), 4);
        assert_eq!(found.warnings[0], "unknown parameter kiln.hostnme, ignored");
    }

    #[test]
    fn a_trial_and_reboots_as_a_cure_are_asked_for_exactly() {
        let found = parse("kiln.trial=1 kiln.cure-reboots=3");
        assert_eq!((found.trial, found.cure_reboots, found.warnings.len()), (true, 3, 0));
        let found = parse("kiln.trial=yes kiln.cure-reboots=-1 kiln.cure-reboots=256");
        assert_eq!((found.trial, found.cure_reboots, found.warnings.len()), (false, 0, 3));
    }

    #[test]
    fn without_parameters_there_are_defaults() {
        let found = parse("quiet xkiln.y=z");
        assert_eq!((found.var_size.as_str(), found.pod_log_size.as_str()), ("50%", "5%"));
        assert!(found.warnings.is_empty() && found.hostname.is_none());
    }

    #[test]
    fn what_would_start_something_else_is_reported() {
        let found = parse("init=/bin/sh single rdinit=/init systemd.unit=rescue.target -- kiln.x");
        assert_eq!(found.warnings.len(), 4, "{:?}", found.warnings);
        assert!(found.warnings[0].starts_with("parameter init=/bin/sh has no effect"));
        assert!(found.warnings[3].contains("after --"));
    }

    #[test]
    fn modules_are_locked_only_by_a_clear_yes() {
        assert!(parse("kiln.lock-modules=yes").lock_modules);
        assert!(!parse("kiln.lock-modules=yes kiln.lock-modules=no").lock_modules);
        let odd = parse("kiln.lock-modules=1");
        assert!(!odd.lock_modules && odd.warnings.len() == 1);
    }

    proptest! {
        #[test]
        fn any_line_is_read(line in ".{0,200}", value in "[^\"\\s]{0,20}") {
            let _ = parse(&line);
            let found = parse(&format!("{} kiln.hostname={value}", line.replace('"', "")));
            prop_assert_eq!(found.hostname, Some(value));
        }
    }
}
