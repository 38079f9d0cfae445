//! `cargo xtask test`

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use super::Target;
use super::size::over_budget;
use crate::build::{Builder, machine};
use crate::config::{Arch, Source};
use crate::host::HostTool;
use crate::image::{hardening, judge};
use crate::plan::staged;
use crate::process::{self, Command};
use crate::progress::Progress;
use crate::scenario::{self, Scenario};

#[derive(Debug, Args)]
pub(super) struct Test {
    /// Only these VM scenarios; everything when none is named
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,
    /// Everything but the VM scenarios
    #[arg(long, conflicts_with = "scenarios")]
    no_vm: bool,
}

/// One check outside the VMs: its name, and what it does.
type Check = (&'static str, fn(&Builder) -> Result<()>);

/// The quick ones first.
const CHECKS: [Check; 9] = [
    ("formatting", formatting),
    ("cargo test", cargo_test),
    ("clippy", clippy),
    ("go test", go_test),
    ("what runc can do", features),
    ("size budget", size_budget),
    ("ukify and pe-inspect", judges),
    ("kernel-hardening-checker", hardened),
    ("answers beside nginx and lighttpd", answers),
];

impl Test {
    pub(super) fn run(self) -> Result<()> {
        let builder = Target { config: None, arch: Arch::HOST }.open()?;
        let dir = builder.inputs.workspace.join("tests/vm");
        // Asked first: a misspelt name should not cost minutes.
        let scenarios = scenario::choose(scenario::load(&dir.join("scenarios"))?, &self.scenarios)?;
        if self.scenarios.is_empty() {
            run_checks(&builder)?;
        }
        if self.no_vm { Ok(()) } else { run_scenarios(&builder, &dir, &scenarios) }
    }
}

fn run_checks(builder: &Builder) -> Result<()> {
    let mut failed = 0;
    for (name, check) in CHECKS {
        let result = check(builder);
        process::check_interrupt()?;
        match result {
            Ok(()) => println!("PASS {name}"),
            Err(error) => {
                failed += 1;
                println!("FAIL {name}: {error:#}");
            }
        }
    }
    println!("{} passed, {failed} failed", CHECKS.len() - failed);
    if failed > 0 {
        bail!("{failed} of {} checks failed", CHECKS.len())
    }
    Ok(())
}

fn run_scenarios(builder: &Builder, dir: &Path, scenarios: &[Scenario]) -> Result<()> {
    let rig = machine::rig(builder, dir)?;
    let build =
        |path: &Path| Ok(Builder::open(path, Arch::HOST, builder.progress.clone())?.image()?.efi);
    scenario::run(&rig, scenarios, &Progress::new(), build)
}

fn formatting(builder: &Builder) -> Result<()> {
    component(builder, "rustfmt", &["fmt", "--all", "--check"])
}

fn clippy(builder: &Builder) -> Result<()> {
    let args = [
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--locked",
        "--",
        "--deny",
        "warnings",
    ];
    component(builder, "clippy", &args)
}

fn cargo_test(builder: &Builder) -> Result<()> {
    cargo(builder, &["test", "--quiet", "--workspace", "--locked"]).spawn()?.wait()
}

/// Runs a part of the toolchain that rustup's minimal profile lacks.
fn component(builder: &Builder, name: &str, args: &[&str]) -> Result<()> {
    if cargo(builder, &[args[0], "--version"]).output().is_err() {
        bail!("the toolchain has no {name}; `rustup component add {name}` adds it");
    }
    cargo(builder, args).spawn()?.wait()
}

fn cargo(builder: &Builder, args: &[&str]) -> Command {
    Command::new("cargo").dir(&builder.inputs.workspace).args(args)
}

/// Runs the tests of Go programs of our own.
fn go_test(builder: &Builder) -> Result<()> {
    let mut tested = 0;
    for name in &builder.config.listed {
        let package = builder.config.package(name);
        let Source::Go(go) = &package.source else { continue };
        if go.programs.values().any(|path| path.starts_with("./")) {
            builder.make(&[&format!("fetch {name}")])?;
            crate::source::go::test(package, go, &builder.go_caches()?)?;
            tested += 1;
        }
    }
    ensure!(tested > 0, "no package has Go code of our own");
    Ok(())
}

/// containerd answers for runc (`pkgs/containerd/features`): what it says is what runc would say.
///
/// `supportedFlags` alone is the machine's, and CRI does not look at it.
fn features(builder: &Builder) -> Result<()> {
    let step = staged("runc");
    let runc = builder.make(&[&step])?[&step].path().join("runc");
    let says = Command::new(runc).args(["features"]).output()?.stdout;
    let mut says: serde_json::Value = serde_json::from_slice(&says).context("`runc features`")?;
    if let Some(seccomp) = says.pointer_mut("/linux/seccomp").and_then(|it| it.as_object_mut()) {
        seccomp.remove("supportedFlags");
    }
    let file = builder.inputs.workspace.join("pkgs/containerd/features/runc.json");
    let known = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    ensure!(
        serde_json::from_slice::<serde_json::Value>(&known)? == says,
        "{} is not what this runc can do; it should be\n{says:#}",
        file.display()
    );
    Ok(())
}

fn size_budget(builder: &Builder) -> Result<()> {
    let over = over_budget(&builder.image()?.report, &builder.config.budget);
    ensure!(over.is_empty(), "over budget: {}", over.join("; "));
    Ok(())
}

fn answers(builder: &Builder) -> Result<()> {
    crate::web::differ::check(builder, None).map(drop)
}

fn judges(builder: &Builder) -> Result<()> {
    let efi = builder.image()?.efi;
    let (parts, made) = builder.uki_parts()?;
    let ukify = HostTool::python(made["package ukify"].path(), "ukify");
    let pe_inspect = HostTool::python(made["package virt-firmware"].path(), "pe-inspect");
    let scratch = tempfile::tempdir()?;
    judge::compare_with_ukify(&ukify, &parts, &efi, scratch.path())?;
    judge::inspect(&ukify, &pe_inspect, &efi)
}

/// The kernel as the image starts it, against the list of accepted misses.
fn hardened(builder: &Builder) -> Result<()> {
    let (parts, made) = builder.uki_parts()?;
    let checker = "kernel-hardening-checker";
    let checker = HostTool::python(made[&format!("package {checker}")].path(), checker);
    let config = made["kernel"].path().join("config");
    let accepted = std::fs::read_to_string(builder.inputs.workspace.join(hardening::ACCEPTED))?;
    let scratch = tempfile::tempdir()?;
    let report = hardening::judge(&checker, &config, &parts.cmdline, scratch.path())?;
    println!("{}", hardening::check(&report, &accepted)?);
    Ok(())
}
