//! Checks the kernel's command line and settings with `kernel-hardening-checker`, against a list of
//! accepted misses, each with its reason.
//!
//! The kernel's build options are Debian's decision and are not judged. The checker needs them
//! because a built-in default makes a parameter unnecessary.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use kiln_contract::sysctl;
use serde::Deserialize;

use crate::host::HostTool;

/// The list, in the repository.
pub const ACCEPTED: &str = "tests/hardening.toml";

/// The kinds of checks that depend on the image.
const KINDS: [&str; 2] = ["cmdline", "sysctl"];

/// One check, as the checker reports it.
#[derive(Debug, Deserialize)]
struct Verdict {
    option_name: String,
    #[serde(rename = "type")]
    kind: String,
    check_result: String,
    check_result_bool: bool,
}

/// The file of accepted misses.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Accepted {
    miss: Vec<Miss>,
}

/// Misses that have one reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Miss {
    why: String,
    #[serde(default)]
    cmdline: Vec<String>,
    #[serde(default)]
    sysctl: Vec<String>,
}

/// Runs the checker on the image's command line and PID 1's table, and returns its report as JSON.
pub fn judge(checker: &HostTool, config: &Path, cmdline: &str, scratch: &Path) -> Result<String> {
    let place = |name: &str, text: &str| {
        let path = scratch.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok::<_, anyhow::Error>(path)
    };
    let cmdline = place("cmdline", &format!("{cmdline}\n"))?;
    let settings = place("sysctl", &settings())?;
    let command = checker.command()?.args(["-m", "json", "-c"]).arg(config);
    command.arg("-l").arg(cmdline).arg("-s").arg(settings).read()
}

/// Returns PID 1's table in the form of `sysctl -a`.
fn settings() -> String {
    sysctl::TABLE.iter().fold(String::new(), |mut text, (name, value, _)| {
        let _ = writeln!(text, "{} = {value}", name.replace('/', "."));
        text
    })
}

/// Fails if a miss is not accepted or an accepted miss passes, and returns the score otherwise.
pub fn check(report: &str, accepted: &str) -> Result<String> {
    let verdicts: Vec<Verdict> =
        serde_json::from_str(report).context("cannot read the report of the checker")?;
    let verdicts: BTreeMap<(String, String), Verdict> = verdicts
        .into_iter()
        .filter(|verdict| KINDS.contains(&verdict.kind.as_str()))
        .map(|verdict| ((verdict.kind.clone(), verdict.option_name.clone()), verdict))
        .collect();
    let accepted: Accepted = toml::from_str(accepted).context(ACCEPTED)?;
    let accepted = accepted.names()?;
    let mut wrong = Vec::new();
    for (key, verdict) in &verdicts {
        match (verdict.check_result_bool, accepted.contains(key)) {
            (true, true) => wrong.push(format!("{} is accepted as a miss and passes", key.1)),
            (false, false) => wrong.push(format!("{}: {}", key.1, verdict.check_result)),
            _ => {}
        }
    }
    if !wrong.is_empty() {
        bail!("{}; see {ACCEPTED}", wrong.join("; "));
    }
    let passed = verdicts.values().filter(|verdict| verdict.check_result_bool).count();
    Ok(format!("{passed} of {} checks pass, all others are accepted", verdicts.len()))
}

impl Accepted {
    fn names(self) -> Result<BTreeSet<(String, String)>> {
        let mut names = BTreeSet::new();
        for miss in self.miss {
            if miss.why.trim().is_empty() {
                bail!("{ACCEPTED}: a miss without a reason");
            }
            for (kind, list) in KINDS.into_iter().zip([miss.cmdline, miss.sysctl]) {
                for name in list {
                    if !names.insert((kind.to_owned(), name.clone())) {
                        bail!("{ACCEPTED}: `{name}` occurs twice");
                    }
                }
            }
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"[
        {"option_name": "CONFIG_X", "type": "kconfig", "check_result": "FAIL", "check_result_bool": false},
        {"option_name": "a", "type": "cmdline", "check_result": "OK", "check_result_bool": true},
        {"option_name": "b.c", "type": "sysctl", "check_result": "FAIL: \"1\"", "check_result_bool": false}
    ]"#;

    #[track_caller]
    fn check_fails(accepted: &str, expected: &str) {
        let error = check(REPORT, accepted).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn an_accepted_miss_with_a_reason_is_fine_and_the_kernel_s_own_build_is_not_judged() {
        let score = check(REPORT, "[[miss]]\nwhy = \"x\"\nsysctl = [\"b.c\"]").unwrap();
        assert_eq!(score, "1 of 2 checks pass, all others are accepted");
    }

    #[test]
    fn a_new_miss_and_an_outdated_acceptance_fail() {
        check_fails("miss = []", "b.c: FAIL: \"1\"");
        let both = "[[miss]]\nwhy = \"x\"\nsysctl = [\"b.c\"]\ncmdline = [\"a\"]";
        check_fails(both, "a is accepted as a miss and passes");
    }

    #[test]
    fn a_miss_needs_a_reason() {
        check_fails("[[miss]]\nwhy = \" \"\nsysctl = [\"b.c\"]", "without a reason");
    }

    #[test]
    fn settings_look_like_sysctl_s_own_output() {
        assert!(settings().contains("\nkernel.kptr_restrict = 2\n"));
    }
}
