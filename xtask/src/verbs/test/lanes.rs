//! The two lanes of a run, in parallel: one builds images and runs the checks, the other runs the
//! scenarios.
//!
//! A virtual machine waits most of the time, so both lanes together take little longer than the
//! slower one. A scenario that measures time starts only after the first lane has ended.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};

use super::checks::Check;
use super::report::{Kind, Report};
use super::suite::Suite;
use crate::arch::Arch;
use crate::build::{Builder, machine};
use crate::process;
use crate::scenario::{self, Image, Images, Rig, Scenario};

/// The state that both lanes share.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Finished images.
    images: Images,
    /// Images that cannot be built.
    broken: BTreeSet<String>,
    /// True once the programs of a control plane are there, or cannot be built.
    cluster_is_decided: bool,
    /// True after the last image and the last check.
    host_is_idle: bool,
}

/// Marks the first lane as ended when it is dropped, also after a panic.
struct EndOfLane<'a>(&'a Shared);

/// Runs everything. Failures go into the report; an error means that the run was interrupted.
pub(super) fn run(suite: &Suite, builder: &Builder, rig: &Rig, report: &Report) -> Result<()> {
    let shared = Shared::default();
    thread::scope(|scope| {
        let host = scope.spawn(|| {
            let _end = EndOfLane(&shared);
            build_nfs(suite, builder, rig, report);
            build_images(suite, builder, &shared, report)?;
            build_cluster(suite, builder, rig, &shared, report)?;
            run_checks(suite.checks, builder, report)
        });
        let machines = run_scenarios(&suite.scenarios, rig, &shared, builder, report);
        let host = host.join().unwrap_or_else(|_| Err(anyhow!("the checks panicked")));
        host.and(machines)
    })
}

/// Runs the checks one after another.
pub(super) fn run_checks(checks: &[Check], builder: &Builder, report: &Report) -> Result<()> {
    for check in checks {
        let start = Instant::now();
        let result = check.run(builder);
        process::check_interrupt()?;
        report.add(Kind::Check, check.name, start, &result);
    }
    Ok(())
}

/// Makes the programs of a control plane, if a scenario needs them.
fn build_cluster(
    suite: &Suite,
    builder: &Builder,
    rig: &Rig,
    shared: &Shared,
    report: &Report,
) -> Result<()> {
    if !suite.scenarios.iter().any(|scenario| scenario.cluster.is_some()) {
        return Ok(());
    }
    let start = Instant::now();
    let outcome = machine::cluster_tools(builder).map(|tools| {
        // It is set once, here.
        let _ = rig.cluster.set(tools);
        String::new()
    });
    process::check_interrupt()?;
    shared.state().cluster_is_decided = true;
    shared.changed.notify_all();
    report.add(Kind::Image, "control plane", start, &outcome);
    Ok(())
}

/// Makes the NFS server, if a scenario needs it.
fn build_nfs(suite: &Suite, builder: &Builder, rig: &Rig, report: &Report) {
    if !suite.scenarios.iter().any(|scenario| scenario.nfs) {
        return;
    }
    let start = Instant::now();
    let outcome = machine::nfs_server(builder).map(|tool| {
        // It is set once, here.
        let _ = rig.nfs.set(tool);
        String::new()
    });
    report.add(Kind::Image, "NFS server", start, &outcome);
}

fn build_images(suite: &Suite, builder: &Builder, shared: &Shared, report: &Report) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in suite.scenarios.iter().flat_map(Scenario::images) {
        if !seen.insert(name) {
            continue;
        }
        let start = Instant::now();
        let result = build_image(&suite.dir.join(format!("{name}.toml")), builder);
        process::check_interrupt()?;
        let mut state = shared.state();
        let outcome = match result {
            Ok(image) => {
                state.images.insert(name.to_owned(), image);
                Ok(String::new())
            }
            Err(error) => {
                state.broken.insert(name.to_owned());
                builder.progress.message(&format!("{error:#}"));
                Err(error)
            }
        };
        drop(state);
        shared.changed.notify_all();
        report.add(Kind::Image, name, start, &outcome);
    }
    Ok(())
}

fn build_image(file: &Path, builder: &Builder) -> Result<Image> {
    let build = || -> Result<Image> {
        let builder = Builder::open(file, Arch::HOST, builder.progress.clone())?;
        Ok(Image { efi: builder.image()?.efi, kernel: machine::kernel(&builder)? })
    };
    build().with_context(|| format!("cannot build {}", file.display()))
}

fn run_scenarios(
    scenarios: &[Scenario],
    rig: &Rig,
    shared: &Shared,
    builder: &Builder,
    report: &Report,
) -> Result<()> {
    let mut waiting: Vec<&Scenario> = scenarios.iter().collect();
    while !waiting.is_empty() {
        let (at, images) = shared.wait_for_next(&waiting);
        let scenario = waiting.remove(at);
        let start = Instant::now();
        let result =
            images.and_then(|images| scenario::run(rig, scenario, &images, &builder.progress));
        process::check_interrupt()?;
        let remark = result.map(|figures| figures.join(", "));
        report.add(Kind::Scenario, &scenario.name, start, &remark);
    }
    Ok(())
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the state intact: every change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a scenario can start; returns its place and the images.
    fn wait_for_next(&self, waiting: &[&Scenario]) -> (usize, Result<Images>) {
        let mut state = self.state();
        loop {
            if let Some(at) = state.next(waiting) {
                return (at, state.images_for(waiting[at]));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl State {
    /// The first scenario that can start now; once the host is idle, each one can.
    fn next(&self, waiting: &[&Scenario]) -> Option<usize> {
        let known = |image: &str| self.images.contains_key(image) || self.broken.contains(image);
        let has_cluster =
            |scenario: &Scenario| scenario.cluster.is_none() || self.cluster_is_decided;
        waiting.iter().position(|scenario| {
            let built = scenario.images().all(known) && has_cluster(scenario);
            self.host_is_idle || !scenario.measures_time() && built
        })
    }

    fn images_for(&self, scenario: &Scenario) -> Result<Images> {
        let missing = scenario.images().find(|image| !self.images.contains_key(*image));
        match missing {
            Some(image) => Err(anyhow!("its image `{image}` was not built")),
            None => Ok(self.images.clone()),
        }
    }
}

impl Drop for EndOfLane<'_> {
    fn drop(&mut self) {
        self.0.state().host_is_idle = true;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::qemu::Kernel;

    fn scenario(image: &str, more: &str) -> Scenario {
        let text = format!(
            "about = \"x\"\nports = [9090]\n[[step]]\nboot = \"{image}\"\n{more}[[step]]\npower-cut = true\n"
        );
        Scenario::parse(&text, &PathBuf::from("x.toml")).unwrap()
    }

    fn state(images: &[&str]) -> State {
        let kernel =
            Kernel { image: PathBuf::new(), archive: PathBuf::new(), cmdline: String::new() };
        let image = Image { efi: PathBuf::new(), kernel };
        let images = images.iter().map(|name| ((*name).to_owned(), image.clone()));
        State { images: images.collect(), ..State::default() }
    }

    #[test]
    fn a_scenario_starts_as_soon_as_its_image_is_there() {
        let (a, b) = (scenario("a", ""), scenario("b", ""));
        let waiting = [&a, &b];
        assert_eq!(state(&[]).next(&waiting), None);
        assert_eq!(state(&["b"]).next(&waiting), Some(1));
        assert_eq!(state(&["a", "b"]).next(&waiting), Some(0));
    }

    #[test]
    fn a_scenario_that_measures_time_waits_until_the_host_is_idle() {
        let figure = "[[step]]\nfigure = { path = \"/m\", name = \"n\", at-most = 1 }\n";
        let timed = scenario("a", figure);
        let mut state = state(&["a"]);
        assert_eq!(state.next(&[&timed]), None);
        state.host_is_idle = true;
        assert_eq!(state.next(&[&timed]), Some(0));
    }

    #[test]
    fn a_scenario_whose_image_cannot_be_built_fails_without_delaying_others() {
        let broken = scenario("a", "");
        let mut state = state(&["b"]);
        state.broken.insert("a".to_owned());
        assert_eq!(state.next(&[&broken]), Some(0));
        let error = state.images_for(&broken).unwrap_err().to_string();
        assert!(error.contains("`a` was not built"), "{error}");
    }
}
