//! The outcome of a run: a line for each check and scenario as it finishes, then the time of every
//! step, slowest first, and the verdict.
//!
//! Durations are kept in a file below `target`, where `--list` finds them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::build::workspace;
use crate::progress::{Progress, Seconds};
use kiln_host::{print, println};

/// The durations of the last runs, below the workspace.
const DURATIONS: &str = "target/kiln/test/durations.json";

/// A kind of step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Check,
    Image,
    Scenario,
}

/// A finished step.
#[derive(Debug, Clone)]
struct Outcome {
    kind: Kind,
    name: String,
    took: Duration,
    passed: bool,
}

/// The outcomes of a run so far; any thread may add to them.
pub(super) struct Report {
    outcomes: Mutex<Vec<Outcome>>,
    start: Instant,
    progress: Progress,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Image => "image",
            Self::Scenario => "scenario",
        }
    }

    /// The key of a step in the file of durations.
    pub(super) fn key(self, name: &str) -> String {
        format!("{} {name}", self.name())
    }
}

impl Report {
    pub(super) fn new(progress: Progress) -> Self {
        Self { outcomes: Mutex::default(), start: Instant::now(), progress }
    }

    /// Adds a step that began at `start`; a check or scenario gets a line with the remark or the error.
    pub(super) fn add(&self, kind: Kind, name: &str, start: Instant, result: &Result<String>) {
        let took = start.elapsed();
        let time = Seconds(took);
        let line = match result {
            Ok(remark) if remark.is_empty() => format!("PASS {name} ({time})"),
            Ok(remark) => format!("PASS {name} ({time}, {remark})"),
            Err(error) => format!("FAIL {name} ({time}): {error:#}"),
        };
        if kind != Kind::Image {
            self.progress.message(&line);
        }
        let outcome = Outcome { kind, name: name.to_owned(), took, passed: result.is_ok() };
        self.outcomes().push(outcome);
    }

    /// Prints the times and the verdict; an error if a step failed.
    pub(super) fn finish(&self) -> Result<()> {
        let outcomes = self.outcomes();
        keep(&workspace()?.join(DURATIONS), &outcomes)?;
        print!("{}", table(&outcomes));
        println!("total, with checks and scenarios in parallel: {}", Seconds(self.start.elapsed()));
        let (passed, failed) = count(&outcomes);
        println!("{passed} passed, {failed} failed");
        if failed > 0 {
            bail!("{failed} of {} checks and VM scenarios failed", passed + failed)
        }
        Ok(())
    }

    fn outcomes(&self) -> MutexGuard<'_, Vec<Outcome>> {
        // A panic elsewhere leaves the list intact: adding to it is one call.
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts checks and scenarios; an image that cannot be built fails the scenarios that boot it.
fn count(outcomes: &[Outcome]) -> (usize, usize) {
    let judged = outcomes.iter().filter(|outcome| outcome.kind != Kind::Image);
    let (passed, failed): (Vec<_>, Vec<_>) = judged.partition(|outcome| outcome.passed);
    (passed.len(), failed.len())
}

fn table(outcomes: &[Outcome]) -> String {
    let mut slowest_first: Vec<&Outcome> = outcomes.iter().collect();
    slowest_first.sort_by_key(|outcome| std::cmp::Reverse(outcome.took));
    let mut text = "\nsteps, slowest first\n".to_owned();
    for Outcome { kind, name, took, passed } in slowest_first {
        let failed = if *passed { "" } else { "  FAILED" };
        let (took, kind) = (Seconds(*took).to_string(), kind.name());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{took:>11}  {kind:8}  {name}{failed}");
    }
    text
}

/// The last durations in seconds by [`Kind::key`]; empty before the first run.
pub(super) fn last_durations() -> Result<BTreeMap<String, u64>> {
    let path = workspace()?.join(DURATIONS);
    // The file is a convenience: if it is damaged, the next run writes it again.
    let text = fs::read_to_string(path).unwrap_or_default();
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

/// Stores the durations of steps that passed, and keeps those of steps that did not run.
fn keep(path: &PathBuf, outcomes: &[Outcome]) -> Result<()> {
    let mut durations = last_durations()?;
    let passed = outcomes.iter().filter(|outcome| outcome.passed);
    durations
        .extend(passed.map(|outcome| (outcome.kind.key(&outcome.name), outcome.took.as_secs())));
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))
        .and_then(|()| fs::write(path, serde_json::to_string_pretty(&durations)?))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn outcomes() -> Vec<Outcome> {
        [
            (Kind::Check, "clippy", 9, true),
            (Kind::Image, "build", 20, true),
            (Kind::Scenario, "node", 100, false),
        ]
        .map(|(kind, name, seconds, passed)| Outcome {
            kind,
            name: name.to_owned(),
            took: Duration::from_secs(seconds),
            passed,
        })
        .into()
    }

    #[test]
    fn the_slowest_step_comes_first() {
        let expected = expect![[r"

            steps, slowest first
             1 min 40 s  scenario  node  FAILED
                   20 s  image     build
                  9.0 s  check     clippy
        "]];
        expected.assert_eq(&table(&outcomes()));
    }

    #[test]
    fn checks_and_scenarios_count_and_images_do_not() {
        assert_eq!(count(&outcomes()), (1, 1));
    }
}
