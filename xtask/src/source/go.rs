//! Go programs: modules are downloaded by one step, programs are built without a network by another.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use kiln_base::calendar::{Civil, Precision};
use kiln_host::environment::{GO, NETWORK};
use serde::Deserialize;
use xshell::{Cmd, cmd};

use super::kind::{Facts, Fetch, Kind, Known, Making, Place, Planned, Subject, Toolchain};
use super::smoke;
use crate::arch::Arch;
use crate::cache::Cache;
use crate::digest::{Digest, Recipe};
use crate::process::{Command, shell};
use crate::progress::Progress;
use crate::revision;
use crate::walk::{self, NOT_BUILT};

/// The table as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Table {
    programs: BTreeMap<String, String>,
    #[serde(default)]
    tags: Vec<String>,
    version_of: Option<String>,
    #[serde(default)]
    variables: BTreeMap<String, String>,
    #[serde(default)]
    cgo: bool,
    #[serde(default)]
    libraries: Vec<String>,
    #[serde(default)]
    ldflags: Vec<String>,
}

/// Go programs, and how to build them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Go {
    /// Output file name → Go package path.
    pub programs: BTreeMap<String, String>,
    /// Build tags.
    pub tags: Vec<String>,
    /// The module whose version fills `${version}`, `${major}` and `${minor}`.
    pub version_of: Option<String>,
    /// Linker variables (`-X`).
    pub variables: BTreeMap<String, String>,
    /// True if C is compiled, which needs a C compiler.
    pub cgo: bool,
    /// Packages whose files are the sysroot of cgo.
    pub libraries: Vec<String>,
    /// More linker flags.
    pub ldflags: Vec<String>,
}

impl Table {
    pub(super) fn check(&self, place: &Place<'_>) -> Result<Go> {
        let Self { programs, tags, version_of, variables, cgo, libraries, ldflags } = self.clone();
        if version_of.is_none()
            && let Some(variable) = variables.values().find(|value| value.contains("${version}"))
        {
            let cause = format!("`{variable}` needs `version-of` in [source.go]");
            return Err(place.text.whole(cause));
        }
        Ok(Go { programs, tags, version_of, variables, cgo, libraries, ldflags })
    }
}

impl Kind for Go {
    fn libraries(&self) -> &[String] {
        &self.libraries
    }

    fn look(
        &self,
        package: &Subject<'_>,
        _: &Path,
        toolchain: &mut Toolchain,
    ) -> Result<Option<Facts>> {
        toolchain.need_go()?;
        if self.cgo {
            toolchain.need_cc()?;
        }
        let path = package.folder.join("go.mod");
        let go_mod =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Some(Facts { digest: walk::digest(package.folder, &NOT_BUILT)?, go_mod }))
    }

    fn plan(&self, known: &Known<'_>, libraries: &[Digest]) -> Result<Planned> {
        let (package, toolchain, facts) = (known.package, known.toolchain, known.facts()?);
        let modules = Recipe::new(revision::GO_MODULES).digest("folder", facts.digest);
        let mut recipe = Recipe::new(revision::GO)
            .field("go", &toolchain.go)
            .field("arch", package.arch.go())
            .field("date", package.date.to_string())
            .digest("folder", facts.digest)
            .field("source", format!("{self:?}"))
            .field("smoke", format!("{:?}", package.smoke));
        if self.cgo {
            recipe = recipe.field("cc", &toolchain.cc);
        }
        for (library, digest) in self.libraries.iter().zip(libraries) {
            recipe = recipe.digest(library, *digest);
        }
        let fetch = Fetch { step: format!("fetch {}", package.name), digest: modules.finish() };
        Ok(Planned { fetch: Some(fetch), downloads: Vec::new(), digest: recipe.finish() })
    }

    fn fetch(&self, making: &Making<'_>) -> Result<()> {
        fetch(&making.package, &Caches::new(making.cache)?, making.progress)
    }

    fn stage(&self, making: &Making<'_>) -> Result<()> {
        let scratch = tempfile::tempdir().context("cannot create a temporary folder")?;
        let parts = Build {
            caches: &Caches::new(making.cache)?,
            arch: making.package.arch,
            date: making.package.date,
            go_mod: making.facts.map_or("", |facts| &facts.go_mod),
            libraries: &making.libraries,
            scratch: scratch.path(),
        };
        build(&making.package, self, &parts, making.out, making.progress)?;
        smoke::run(&making.package, making.out)
    }

    fn version(&self, known: &Known<'_>) -> Result<Option<String>> {
        Ok(version(self, known.facts.map_or("", |facts| &facts.go_mod)))
    }
}

/// Debian's library folder in a sysroot of this machine.
const LIBRARIES: &str = if cfg!(target_arch = "aarch64") {
    "usr/lib/aarch64-linux-gnu"
} else {
    "usr/lib/x86_64-linux-gnu"
};

/// The folders for modules and compiled packages: in the builder's cache, never in the user's.
#[derive(Debug, Clone)]
pub struct Caches {
    /// `GOMODCACHE`.
    pub modules: PathBuf,
    /// `GOCACHE`.
    pub builds: PathBuf,
    /// `GOPATH`, where go keeps its copy of the checksum database.
    pub path: PathBuf,
}

impl Caches {
    /// Takes folders of the builder's cache.
    pub fn new(cache: &Cache) -> Result<Self> {
        Ok(Self {
            modules: cache.dir("go-mod")?,
            builds: cache.dir("go-build")?,
            path: cache.dir("go-path")?,
        })
    }
}

/// The inputs of a build besides the package.
#[derive(Debug)]
pub struct Build<'a> {
    /// Go's own caches.
    pub caches: &'a Caches,
    /// The architecture of the image.
    pub arch: Arch,
    /// The source date, seconds since 1970.
    pub date: u32,
    /// Text of go.mod.
    pub go_mod: &'a str,
    /// Unpacked libraries for cgo.
    pub libraries: &'a [PathBuf],
    /// A folder for temporary files.
    pub scratch: &'a Path,
}

/// Downloads all modules of a package and checks them against its go.sum. Uses the network.
pub fn fetch(package: &Subject<'_>, caches: &Caches, progress: &Progress) -> Result<()> {
    let task = progress.task(&format!("{}: Go modules", package.name), None);
    let sh = shell()?;
    let download = go(caches, package.folder, cmd!(sh, "go mod download -x"));
    let command = download.with(NETWORK).with(GO);
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
    package: &Subject<'_>,
    go: &Go,
    build: &Build<'_>,
    out: &Path,
    progress: &Progress,
) -> Result<()> {
    let flags = ldflags(go, build)?;
    let total = count(package, go, build)?;
    let task = progress.task(&format!("{}: go build", package.name), Some(total));
    let (sh, tags) = (shell()?, go.tags.join(","));
    for (name, path) in &go.programs {
        let program = out.join(name);
        let command = cmd!(
            sh,
            "go build -v -trimpath -buildvcs=false -tags={tags} -ldflags={flags} -o {program} {path}"
        );
        compile(go, build, package.folder, command)?.watch(|line| {
            if is_package(line) {
                task.advance(1);
                task.note(line);
            }
        })?;
    }
    Ok(())
}

/// Runs the tests of a package's own Go code. `-vet=off`, because vet would check every dependency.
pub fn test(package: &Subject<'_>, go: &Go, caches: &Caches) -> Result<()> {
    let (sh, tags) = (shell()?, go.tags.join(","));
    let command = cmd!(sh, "go test -vet=off -tags={tags} ./...");
    offline(caches, package.folder, command).env("CGO_ENABLED", "0").spawn()?.wait()
}

/// Counts the packages that a build without a cache compiles.
fn count(package: &Subject<'_>, go: &Go, build: &Build<'_>) -> Result<u64> {
    let (sh, tags, programs) = (shell()?, go.tags.join(","), go.programs.values());
    let command = cmd!(sh, "go list -deps -tags={tags} {programs...}");
    Ok(compile(go, build, package.folder, command)?.read()?.lines().count() as u64)
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
        flags.push(word(&format!("-X={variable}={value}"))?);
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

/// Returns the version of the module that the programs are from, if go.mod requires one.
fn version(go: &Go, go_mod: &str) -> Option<String> {
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
    version.ok_or_else(|| anyhow!("go.mod does not require `{module}`, which `version-of` names"))
}

/// A command that compiles for the image, or lists what would be compiled.
fn compile(go: &Go, build: &Build<'_>, dir: &Path, command: Cmd<'_>) -> Result<Command> {
    let command = offline(build.caches, dir, command)
        .env("GOARCH", build.arch.go())
        .env("CGO_ENABLED", if go.cgo { "1" } else { "0" });
    if go.cgo { with_libraries(command, build.libraries, build.scratch) } else { Ok(command) }
}

/// A replacement for pkg-config, which a host need not have: every library is in the sysroots.
///
/// cgo calls it as `PROGRAM --cflags -- NAME…` and `PROGRAM --libs -- NAME…`.
const PKG_CONFIG: &str = r#"#!/bin/sh
case "$1" in
--cflags) printf '%s\n' "$KILN_CFLAGS" ;;
*) printf '%s' "$KILN_LIBS"; shift; for name; do case "$name" in lib*) printf ' -l%s' "${name#lib}" ;; esac; done; echo ;;
esac
"#;

/// Lets cgo find headers and static libraries in the unpacked packages instead of the host's.
fn with_libraries(command: Command, libraries: &[PathBuf], scratch: &Path) -> Result<Command> {
    use std::os::unix::fs::PermissionsExt;
    let script = scratch.join("pkg-config");
    fs::write(&script, PKG_CONFIG).with_context(|| format!("cannot write {}", script.display()))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    let flag = |flag: &str, dir: PathBuf| format!("{flag}{}", escape(&dir));
    let cflags: Vec<String> =
        libraries.iter().map(|dir| flag("-I", dir.join("usr/include"))).collect();
    let libs: Vec<String> = libraries.iter().map(|dir| flag("-L", dir.join(LIBRARIES))).collect();
    Ok(command
        .env("PKG_CONFIG", word(&script.display().to_string())?)
        .env("KILN_CFLAGS", cflags.join(" "))
        .env("KILN_LIBS", libs.join(" ")))
}

/// Escapes a path so that it stays one word for `splitPkgConfigOutput` of Go's
/// `cmd/go/internal/work/exec.go`, which splits as a shell does.
fn escape(path: &Path) -> String {
    let mut escaped = String::new();
    for c in path.display().to_string().chars() {
        if !c.is_alphanumeric() && !"/._-+,:=@%~".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// Quotes a text so that it stays one word for Go's `internal/quoted`, which knows no escapes.
fn word(text: &str) -> Result<String> {
    if !text.contains(|c: char| c.is_ascii_whitespace() || c == '"' || c == '\'') {
        return Ok(text.to_owned());
    }
    let quote = ['"', '\''].into_iter().find(|quote| !text.contains(*quote));
    let quote =
        quote.with_context(|| format!("cannot pass {text} to Go: it has both kinds of quotes"))?;
    Ok(format!("{quote}{text}{quote}"))
}

/// Makes a go command that reads only those user settings that the group [`GO`] passes on.
fn go(caches: &Caches, dir: &Path, command: Cmd<'_>) -> Command {
    Command::from(command)
        .dir(dir)
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "-mod=readonly -modcacherw")
        .env("GOWORK", "off")
        .env("GOOS", "linux")
        .env("GOPATH", &caches.path)
        .env("GOMODCACHE", &caches.modules)
        .env("GOCACHE", &caches.builds)
}

/// All settings of a build; a setting that is missing here would come from the file of `go env -w`
/// or from Go's own `go.env`, which a distribution may change.
fn offline(caches: &Caches, dir: &Path, command: Cmd<'_>) -> Command {
    let settings = [
        ("GOENV", "off"),
        ("GOPROXY", "off"),
        ("GOAMD64", "v1"),
        ("GOARM64", "v8.0"),
        ("GOFIPS140", "off"),
        ("CC", "cc"),
        ("CXX", "c++"),
        ("CGO_CFLAGS", "-O2 -g"),
        ("CGO_CXXFLAGS", "-O2 -g"),
        ("CGO_LDFLAGS", "-O2 -g"),
    ];
    settings
        .into_iter()
        .fold(go(caches, dir, command), |command, (name, value)| command.env(name, value))
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
    fn a_path_stays_one_word_for_cgo() {
        assert_eq!(escape(Path::new("/a b/c,'d\\$")), "/a\\ b/c,\\'d\\\\\\$");
    }

    #[test]
    fn a_space_does_not_split_an_argument_of_go() {
        assert_eq!(word("-X=a=b,c").unwrap(), "-X=a=b,c");
        assert_eq!(word("-X=a=b c").unwrap(), "\"-X=a=b c\"");
        assert_eq!(word("/a \"b").unwrap(), "'/a \"b'");
        assert!(word("/'\"").is_err());
    }

    #[test]
    fn a_complaint_is_not_counted_as_a_package() {
        assert!(is_package("k8s.io/api/core/v1"));
        assert!(!is_package("# k8s.io/api/core/v1") && !is_package("./main.go:3:1: syntax error"));
    }
}
