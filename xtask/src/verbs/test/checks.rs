//! The checks of `cargo xtask test` that need no virtual machine.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use xshell::{Cmd, cmd};

use super::super::size::over_budget;
use crate::bench;
use crate::build::{Builder, machine};
use crate::cluster::git::{self, Commit, GitServer};
use crate::cluster::{ApiServer, State, pki};
use crate::config::ADD_ONS;
use crate::host::HostTool;
use crate::judge::{self, hardening};
use crate::plan::staged;
use crate::process::{Command, shell};
use crate::source::{Source, go};

/// One check on the host.
pub(super) struct Check {
    /// Its name, for people.
    pub name: &'static str,
    run: fn(&Host<'_>) -> Result<String>,
}

/// The builder and the log of a check.
struct Host<'a> {
    builder: &'a Builder,
    /// The file for the output of the program that the check starts.
    log: PathBuf,
}

/// All checks, the quick ones first. The last ones run with `--all` only.
pub(super) static CHECKS: [Check; 12] = [
    Check { name: "formatting", run: formatting },
    Check { name: "cargo test", run: cargo_test },
    Check { name: "clippy", run: clippy },
    Check { name: "go test", run: go_test },
    Check { name: "runc's features", run: features },
    Check { name: "size budget", run: size_budget },
    Check { name: "image in a registry", run: registry },
    Check { name: "pages at a real API server", run: pages },
    Check { name: "ukify and pe-inspect", run: judges },
    Check { name: "kernel-hardening-checker", run: hardened },
    Check { name: "answers compared with nginx and lighttpd", run: answers },
    Check { name: "status page of pages in a browser", run: status_page },
];

/// The number of checks that run always. The others download much: the browser has 161 MB.
const ALWAYS: usize = 11;

/// Returns the checks of a run.
pub(super) fn checks(all: bool) -> &'static [Check] {
    if all { &CHECKS } else { &CHECKS[..ALWAYS] }
}

/// The largest number of lines of a program's output that a failed check repeats.
const LOG_LINES_MAX: usize = 60;

impl Check {
    /// Runs the check; returns a remark for its line of the report, which may be empty.
    pub(super) fn run(&self, builder: &Builder) -> Result<String> {
        let folder = builder.inputs.workspace.join("target/kiln/test");
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let log = folder.join(format!("{}.log", self.name.replace(' ', "-")));
        let task = builder.progress.task(self.name, None);
        let remark = (self.run)(&Host { builder, log })?;
        task.done();
        Ok(remark)
    }
}

fn formatting(host: &Host<'_>) -> Result<String> {
    let sh = shell()?;
    let format = cmd!(sh, "cargo fmt --all --check");
    host.component("rustfmt", cmd!(sh, "cargo fmt --version"), format)
}

fn clippy(host: &Host<'_>) -> Result<String> {
    let sh = shell()?;
    // Tests that are no part of `cargo test` are no part of `--all-targets`.
    let targets = ["--all-targets", "--test", "browser", "--test", "cluster", "--test", "forge"];
    let check =
        cmd!(sh, "cargo clippy --quiet --workspace {targets...} --locked -- --deny warnings");
    host.component("clippy", cmd!(sh, "cargo clippy --version"), check)
}

fn cargo_test(host: &Host<'_>) -> Result<String> {
    let sh = shell()?;
    host.run(host.cargo(cmd!(sh, "cargo test --workspace --locked")))
}

impl Host<'_> {
    /// Runs a part of the toolchain that rustup's minimal profile lacks; `probe` shows its version.
    fn component(&self, name: &str, probe: Cmd<'_>, command: Cmd<'_>) -> Result<String> {
        if self.cargo(probe).output().is_err() {
            bail!("the toolchain has no {name}; `rustup component add {name}` adds it");
        }
        self.run(self.cargo(command))
    }

    /// Prepares a command of the developer's own cargo, with all of the developer's settings.
    fn cargo(&self, command: Cmd<'_>) -> Command {
        Command::from(command).dir(&self.builder.inputs.workspace).with_whole_environment()
    }

    /// Runs a program with its output in the log, so that it does not mix with the output of a machine.
    fn run(&self, command: Command) -> Result<String> {
        let place = self.log.display();
        let log = File::create(&self.log).with_context(|| format!("cannot create {place}"))?;
        let both = log.try_clone().context("cannot duplicate a descriptor")?;
        let command = command.output_to(log.into(), both.into());
        command.spawn()?.wait().map_err(|error| {
            let text = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines[lines.len().saturating_sub(LOG_LINES_MAX)..].join("\n");
            error.context(format!("end of {place}:\n{tail}\nreason"))
        })?;
        Ok(String::new())
    }
}

/// Runs the tests of our own Go code.
fn go_test(host: &Host<'_>) -> Result<String> {
    let builder = host.builder;
    let mut tested = 0;
    let add_ons = ADD_ONS.map(str::to_owned);
    for name in builder.config.listed.iter().chain(&add_ons) {
        let package = builder.config.package(name);
        let Source::Go(source) = &package.source else { continue };
        if source.programs.values().any(|path| path.starts_with("./")) {
            builder.make(&[&format!("fetch {name}")])?;
            go::test(&builder.config.subject(name), source, &builder.go_caches()?)?;
            tested += 1;
        }
    }
    ensure!(tested > 0, "no package has Go code of its own");
    Ok(String::new())
}

/// Compares the list of runc's features that containerd contains (`pkgs/containerd/features`) with runc's
/// own answer.
///
/// `supportedFlags` depends on the machine, and CRI ignores it.
fn features(host: &Host<'_>) -> Result<String> {
    let builder = host.builder;
    let step = staged("runc");
    let runc = builder.make(&[&step])?[&step].path().join("runc");
    let sh = shell()?;
    let says = Command::from(cmd!(sh, "{runc} features")).output()?.stdout;
    let mut says: serde_json::Value = serde_json::from_slice(&says).context("`runc features`")?;
    if let Some(seccomp) = says.pointer_mut("/linux/seccomp").and_then(|it| it.as_object_mut()) {
        seccomp.remove("supportedFlags");
    }
    let file = builder.inputs.workspace.join("pkgs/containerd/features/runc.json");
    let known = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    ensure!(
        serde_json::from_slice::<serde_json::Value>(&known)? == says,
        "{} differs from runc's own list, which is\n{says:#}",
        file.display()
    );
    Ok(String::new())
}

fn size_budget(host: &Host<'_>) -> Result<String> {
    let builder = host.builder;
    let over = over_budget(&builder.image()?.report, &builder.config.budget);
    ensure!(over.is_empty(), "over budget: {}", over.join("; "));
    Ok(String::new())
}

fn answers(host: &Host<'_>) -> Result<String> {
    host.run(bench::answers(host.builder, None)?)
}

fn registry(host: &Host<'_>) -> Result<String> {
    super::registry::check(host.builder)
}

/// Runs the tests of `pkgs/pages` that need an API server.
///
/// They are no part of `cargo test --workspace`, because the builder makes the server's programs.
fn pages(host: &Host<'_>) -> Result<String> {
    let programs = machine::control_plane(host.builder)?;
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let state = State::open(folder.path())?;
    let server = ApiServer::start(&programs, &state)?;
    let kubeconfig = state.kubeconfig("kubeconfig", pki::ADMIN, &server.url())?;
    let settings = git::Settings { listen: Ipv4Addr::LOCALHOST, address: Ipv4Addr::LOCALHOST };
    let git = folder.path().join("git");
    let mut git = GitServer::start(&machine::git_server(host.builder)?, &git, settings)?;
    let files = [("index.html", "pushed by the builder")];
    git.create("first")?;
    git.push(Commit { repository: "first", branch: "main", files: &files })?;
    let sh = shell()?;
    let targets = ["--test", "forge", "--test", "cluster"];
    let test = host.cargo(cmd!(sh, "cargo test --package pages {targets...} --locked"));
    let test = test.env("KILN_PAGES_KUBECONFIG", kubeconfig).env("KILN_PAGES_AUDIT", state.audit());
    let test = test.env("KILN_PAGES_GIT", git.description());
    let result = host.run(test);
    git.check()?;
    git.stop()?;
    server.stop()?;
    result
}

/// Runs the tests of `pkgs/pages` that need a browser.
fn status_page(host: &Host<'_>) -> Result<String> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let browser = super::browser::script(host.builder, folder.path())?;
    let sh = shell()?;
    let test = host.cargo(cmd!(sh, "cargo test --package pages --test browser --locked"));
    host.run(test.env("KILN_PAGES_BROWSER", browser))
}

fn judges(host: &Host<'_>) -> Result<String> {
    let builder = host.builder;
    let efi = builder.image()?.efi;
    let (parts, made) = builder.uki_parts()?;
    let ukify = HostTool::python(made["package ukify"].path(), "ukify");
    let pe_inspect = HostTool::python(made["package virt-firmware"].path(), "pe-inspect");
    let scratch = tempfile::tempdir()?;
    judge::uki::compare_with_ukify(&ukify, &parts, &efi, scratch.path())?;
    judge::uki::inspect(&ukify, &pe_inspect, &efi)?;
    Ok(String::new())
}

/// Checks the kernel's configuration and the command line against the list of accepted misses.
fn hardened(host: &Host<'_>) -> Result<String> {
    let builder = host.builder;
    let (parts, made) = builder.uki_parts()?;
    let checker = "kernel-hardening-checker";
    let checker = HostTool::python(made[&format!("package {checker}")].path(), checker);
    let config = made["kernel"].path().join("config");
    let accepted = fs::read_to_string(builder.inputs.workspace.join(hardening::ACCEPTED))?;
    let scratch = tempfile::tempdir()?;
    let report = hardening::judge(&checker, &config, &parts.cmdline, scratch.path())?;
    hardening::check(&report, &accepted)
}
