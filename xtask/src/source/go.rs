//! Go programs: modules are downloaded by one step, programs are built without a network by another.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use kiln_base::calendar::{Civil, Precision};

use crate::config::{Arch, Go, Package};
use crate::process::Command;
use crate::progress::Progress;

/// Debian's library folder in a sysroot of this machine.
const LIBRARIES: &str = if cfg!(target_arch = "aarch64") {
    "usr/lib/aarch64-linux-gnu"
} else {
    "usr/lib/x86_64-linux-gnu"
};

/// Where Go keeps modules and compiled packages: in our cache, never in the user's.
#[derive(Debug, Clone)]
pub struct Caches {
    /// `GOMODCACHE`.
    pub modules: PathBuf,
    /// `GOCACHE`.
    pub builds: PathBuf,
}

/// What a build needs besides the package.
#[derive(Debug)]
pub struct Build<'a> {
    /// Go's own caches.
    pub caches: &'a Caches,
    /// What it is built for.
    pub arch: Arch,
    /// The source date, seconds since 1970.
    pub date: u32,
    /// Text of go.mod.
    pub go_mod: &'a str,
    /// Unpacked libraries for cgo.
    pub libraries: &'a [PathBuf],
    /// A folder for what comes and goes.
    pub scratch: &'a Path,
}

/// Downloads all modules of a package and checks them against its go.sum. Uses the network.
pub fn fetch(package: &Package, caches: &Caches, progress: &Progress) -> Result<()> {
    let task = progress.task(&format!("{}: Go modules", package.name), None);
    let command = go(caches, &package.folder).args(["mod", "download", "-x"]);
    command
        .watch(|line| {
            if let Some((_, module)) = line.split_once("# get ") {
                task.note(module.rsplit("//").next().unwrap_or(module));
            }
        })
        .with_context(|| {
            format!(
                "cannot download the Go modules of `{}`; is the module proxy reachable?",
                package.name
            )
        })
}

/// Builds all programs of a package into `out`. Uses no network.
pub fn build(
    package: &Package,
    go: &Go,
    build: &Build<'_>,
    out: &Path,
    progress: &Progress,
) -> Result<()> {
    let flags = ldflags(go, build)?;
    let total = count(package, go, build)?;
    let task = progress.task(&format!("{}: go build", package.name), Some(total));
    for (name, path) in &go.programs {
        let command = offline(go, build, &package.folder)?
            .args(["build", "-v", "-trimpath", "-buildvcs=false"])
            .arg(format!("-tags={}", go.tags.join(",")))
            .arg(format!("-ldflags={flags}"))
            .arg("-o")
            .arg(out.join(name))
            .arg(path);
        command.watch(|line| {
            if is_package(line) {
                task.advance(1);
                task.note(line);
            }
        })?;
    }
    Ok(())
}

/// Runs the tests of a package's own Go code. `-vet=off`: vet would look at every dependency.
pub fn test(package: &Package, go: &Go, caches: &Caches) -> Result<()> {
    let tags = format!("-tags={}", go.tags.join(","));
    let command = self::go(caches, &package.folder).env("GOPROXY", "off").env("CGO_ENABLED", "0");
    command.args(["test", "-vet=off"]).arg(tags).arg("./...").spawn()?.wait()
}

/// How many packages a build from nothing compiles.
fn count(package: &Package, go: &Go, build: &Build<'_>) -> Result<u64> {
    let command = offline(go, build, &package.folder)?
        .args(["list", "-deps"])
        .arg(format!("-tags={}", go.tags.join(",")))
        .args(go.programs.values());
    Ok(command.read()?.lines().count() as u64)
}

/// `go build -v` prints one import path per line; a compiler's complaint has spaces or a `#`.
fn is_package(line: &str) -> bool {
    !line.is_empty() && !line.starts_with('#') && !line.contains([' ', '\t'])
}

fn ldflags(go: &Go, build: &Build<'_>) -> Result<String> {
    let mut flags = vec!["-s".to_owned(), "-w".to_owned(), "-buildid=".to_owned()];
    flags.extend(go.ldflags.iter().cloned());
    let version =
        go.version_of.as_deref().map(|module| version_of(build.go_mod, module)).transpose()?;
    for (variable, value) in &go.variables {
        let value = expand(value, version.as_deref().unwrap_or(""), build.date);
        flags.push(format!("-X={variable}={value}"));
    }
    Ok(flags.join(" "))
}

/// Replaces `${version}` (v1.36.3), `${major}` (1), `${minor}` (36) and `${date}` (RFC 3339).
fn expand(value: &str, version: &str, date: u32) -> String {
    let mut numbers = version.trim_start_matches('v').split('.');
    value
        .replace("${version}", version)
        .replace("${major}", numbers.next().unwrap_or(""))
        .replace("${minor}", numbers.next().unwrap_or(""))
        .replace(
            "${date}",
            &Civil::from_seconds(date.into()).rfc3339(Precision::Seconds).to_string(),
        )
}

/// The version that a go.mod requires of a module.
/// The version of the module that the programs are from, if go.mod says it.
pub fn version(go: &Go, go_mod: &str) -> Option<String> {
    let program =
        go.version_of.as_deref().or_else(|| go.programs.values().map(String::as_str).next())?;
    let mut parts = Some(program);
    std::iter::from_fn(|| {
        let path = parts?;
        parts = path.rsplit_once('/').map(|(parent, _)| parent);
        Some(path)
    })
    .find_map(|module| version_of(go_mod, module).ok())
}

fn version_of(go_mod: &str, module: &str) -> Result<String> {
    let required = go_mod.lines().filter_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_ascii_whitespace();
        (words.next() == Some(module)).then(|| words.next()).flatten()
    });
    let version = required.map(str::to_owned).find(|version| version.starts_with('v'));
    version.ok_or_else(|| anyhow!("go.mod requires no `{module}`, which `version-of` names"))
}

fn offline(go: &Go, build: &Build<'_>, dir: &Path) -> Result<Command> {
    let command = self::go(build.caches, dir)
        .env("GOPROXY", "off")
        .env("GOARCH", build.arch.go())
        .env("CGO_ENABLED", if go.cgo { "1" } else { "0" });
    if go.cgo { with_libraries(command, build.libraries, build.scratch) } else { Ok(command) }
}

/// A stand-in for pkg-config, which a host need not have: every library of the sysroots is just there.
///
/// cgo calls it as `PROGRAM --cflags -- NAME…` and `PROGRAM --libs -- NAME…`.
const PKG_CONFIG: &str = r#"#!/bin/sh
case "$1" in
--cflags) printf '%s\n' "$KILN_CFLAGS" ;;
*) printf '%s' "$KILN_LIBS"; shift; for name; do case "$name" in lib*) printf ' -l%s' "${name#lib}" ;; esac; done; echo ;;
esac
"#;

/// Lets cgo find headers and static libraries below the unpacked packages, and nothing of the host's.
fn with_libraries(command: Command, libraries: &[PathBuf], scratch: &Path) -> Result<Command> {
    use std::os::unix::fs::PermissionsExt;
    let script = scratch.join("pkg-config");
    fs::write(&script, PKG_CONFIG).with_context(|| format!("cannot write {}", script.display()))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    // A backslash keeps a blank inside a flag (`pkg-config(1)`).
    let flag = |flag: &str, dir: PathBuf| {
        format!("{flag}{}", dir.display().to_string().replace(' ', "\\ "))
    };
    let cflags: Vec<String> =
        libraries.iter().map(|dir| flag("-I", dir.join("usr/include"))).collect();
    let libs: Vec<String> = libraries.iter().map(|dir| flag("-L", dir.join(LIBRARIES))).collect();
    Ok(command
        .env("PKG_CONFIG", script)
        .env("KILN_CFLAGS", cflags.join(" "))
        .env("KILN_LIBS", libs.join(" ")))
}

fn go(caches: &Caches, dir: &Path) -> Command {
    Command::new("go")
        .dir(dir)
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-mod=readonly -modcacherw")
        .env("GOWORK", "off")
        .env("GOOS", "linux")
        .env("GOMODCACHE", &caches.modules)
        .env("GOCACHE", &caches.builds)
        .env_remove("GOEXPERIMENT")
        .env_remove("GOAMD64")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_comes_from_go_mod() {
        let text = "module x\nrequire (\n\tk8s.io/kubernetes v1.36.3\n\tother v1.0.0 // indirect\n)\nrequire one v2.1.0\n";
        assert_eq!(version_of(text, "k8s.io/kubernetes").unwrap(), "v1.36.3");
        assert_eq!(version_of(text, "one").unwrap(), "v2.1.0");
        assert!(version_of(text, "k8s.io").is_err());
    }

    #[test]
    fn a_program_has_its_modules_version() {
        let text = "require (\n\tk8s.io/kubernetes v1.36.3\n\tk8s.io v9.0.0\n)\n";
        let go = |path: &str| Go {
            programs: [("p".to_owned(), path.to_owned())].into(),
            tags: Vec::new(),
            version_of: None,
            variables: [].into(),
            cgo: false,
            libraries: Vec::new(),
            ldflags: Vec::new(),
        };
        let found = |path| version(&go(path), text);
        assert_eq!(found("k8s.io/kubernetes/cmd/kubelet").as_deref(), Some("v1.36.3"));
        assert_eq!(found("elsewhere.test/program"), None);
    }

    #[test]
    fn variables_are_filled_from_version_and_date() {
        assert_eq!(
            expand("${version} ${major}.${minor} ${date}", "v1.36.3", 0),
            "v1.36.3 1.36 1970-01-01T00:00:00Z"
        );
    }

    #[test]
    fn a_complaint_is_not_counted_as_a_package() {
        assert!(is_package("k8s.io/api/core/v1"));
        assert!(!is_package("# k8s.io/api/core/v1") && !is_package("./main.go:3:1: syntax error"));
    }
}
