//! Resolves names of packages with the host's apt but without the host's state, for `cargo xtask
//! update`.
//!
//! apt gets folders, sources and an empty package database of its own, so it resolves another
//! release and another architecture than the host's, needs no root, and changes nothing. It
//! verifies the signatures of the release files with the keys of the package
//! `debian-archive-keyring`. All sha256 digests in the lock come from indexes below those
//! signatures. `apt.conf(5)` explains the settings.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use kiln_host::environment::NETWORK;
use tempfile::TempDir;
use xshell::cmd;

use super::index::{self, Stanza, Uri};
use crate::fetch::mirror::Mirrors;
use crate::lock::{Archive, Lock, Package, Request, Snapshot};
use crate::process::{Command, shell};
use crate::progress::{Progress, Task};

/// The release that packages come from.
const SUITE: &str = "trixie";

/// The release before it, for programs that left Debian (h2o). If both releases have a package, the
/// newer version wins, so nothing else comes from here.
const OLDER: &str = "bookworm";

/// The release after it, for programs that are new in Debian (kernel-hardening-checker). They are
/// never part of an image, and [`preferences`] keeps everything else out.
const NEWER: &str = "forky";

/// The keys of `debian-archive-keyring`, under today's name and that of Debian 14.
const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];

/// A private apt for one architecture.
#[derive(Debug)]
struct Apt<'a> {
    dir: TempDir,
    arch: &'a str,
    mirrors: &'a Mirrors,
}

/// Resolves all requests against today's archive.
pub fn resolve(requests: &BTreeSet<Request>, progress: &Progress) -> Result<Lock> {
    let keyring = keyring(Path::exists)?;
    let mirrors = Mirrors::of_host()?;
    let arches: BTreeSet<&str> = requests.iter().map(|request| request.arch.as_str()).collect();
    let mut pins = Vec::new();
    for arch in arches {
        let of_arch: Vec<&Request> =
            requests.iter().filter(|request| request.arch == arch).collect();
        let label = format!("resolve Debian packages for {arch}");
        let task = progress.task(&label, Some(of_arch.len() as u64));
        let apt = Apt::new(arch, &mirrors, &keyring)?;
        apt.update(&task)?;
        let snapshot = index::snapshot(&apt.releases()?)?;
        for request in of_arch {
            task.note(&request.package);
            pins.push((request.clone(), apt.resolve(request, &snapshot)?));
            task.advance(1);
        }
        task.done();
    }
    Lock::new(pins).context("the archive changed while it was read; run `cargo xtask update` again")
}

/// Returns the file with the keys that sign release files.
fn keyring(exists: impl Fn(&Path) -> bool) -> Result<PathBuf> {
    let found = KEYRINGS.iter().map(PathBuf::from).find(|path| exists(path));
    found.with_context(|| {
        format!(
            "cannot verify Debian's archive: its keys are missing on this host ({}); install the package debian-archive-keyring",
            KEYRINGS[0]
        )
    })
}

impl<'a> Apt<'a> {
    fn new(arch: &'a str, mirrors: &'a Mirrors, keyring: &Path) -> Result<Self> {
        let dir = tempfile::tempdir().context("cannot create a temporary folder")?;
        for folder in ["lists/partial", "cache/archives/partial", "log"] {
            fs::create_dir_all(dir.path().join(folder))
                .context("cannot create a temporary folder")?;
        }
        let sh = shell()?;
        let host = Command::from(cmd!(sh, "apt-config dump")).with(NETWORK).read()?;
        let carried = index::carried(&host)?;
        let files = [
            ("status", String::new()),
            ("sources.list", sources(mirrors, keyring)?),
            ("preferences", preferences()),
            ("apt.conf", settings(dir.path(), arch)? + &carried),
        ];
        for (name, text) in files {
            fs::write(dir.path().join(name), text)
                .with_context(|| format!("cannot write apt's {name}"))?;
        }
        Ok(Self { dir, arch, mirrors })
    }

    fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        let sh = shell()?;
        let command = Command::from(cmd!(sh, "{program} {args...}")).with(NETWORK);
        command.env("APT_CONFIG", self.dir.path().join("apt.conf")).read()
    }

    fn update(&self, task: &Task) -> Result<()> {
        task.note("read the archive's indexes");
        self.run("apt-get", &["update", "-q", "--error-on=any"]).map(drop).with_context(|| {
            format!(
                "cannot read the indexes of Debian {SUITE}; if a key is missing (NO_PUBKEY), a newer debian-archive-keyring has it; the mirror is {}",
                self.mirrors.debian.as_deref().unwrap_or("unknown")
            )
        })
    }

    /// Returns the files that a request resolves to.
    fn resolve(&self, request: &Request, snapshot: &Snapshot) -> Result<Vec<Package>> {
        let found = if request.closure {
            self.packages(&self.closure(&request.package)?)?
        } else {
            self.real(&request.package)?
        };
        let package = |(stanza, archive): (Stanza, Archive)| {
            let Stanza { name, arch, version, path, size, sha256, .. } = stanza;
            Package { name, arch, version, archive, path, size, sha256, snapshot: snapshot.clone() }
        };
        Ok(found.into_iter().map(package).collect())
    }

    /// Returns a package, or the package with the files if `name` only refers to it.
    fn real(&self, name: &str) -> Result<Vec<(Stanza, Archive)>> {
        let found = self.packages(&self.single(name)?)?;
        let real = found.iter().find_map(|(stanza, _)| stanza.stands_for().map(str::to_owned));
        match real {
            Some(real) => self.packages(&self.single(&real)?),
            None => Ok(found),
        }
    }

    /// Returns the addresses of a package and of everything that it depends on.
    fn closure(&self, name: &str) -> Result<Vec<Uri>> {
        let args = ["install", "-qq", "-y", "--print-uris", "--no-install-recommends", name];
        let text = self.run("apt-get", &args).with_context(|| self.unresolved(name))?;
        index::parse_uris(&text)
    }

    /// Returns the address of one package.
    fn single(&self, name: &str) -> Result<Vec<Uri>> {
        let text = self.run("apt-get", &["download", "-qq", "--print-uris", name]);
        index::parse_uris(&text.with_context(|| self.unresolved(name))?)
    }

    fn unresolved(&self, name: &str) -> String {
        format!("cannot resolve the package `{name}` for {} in Debian {SUITE}", self.arch)
    }

    /// Looks up the files at these addresses in the signed indexes.
    fn packages(&self, uris: &[Uri]) -> Result<Vec<(Stanza, Archive)>> {
        let names: BTreeSet<&str> =
            uris.iter().filter_map(|uri| index::name_in(&uri.url)).collect();
        let args: Vec<&str> = ["show"].into_iter().chain(names).collect();
        let stanzas = index::parse_stanzas(&self.run("apt-cache", &args)?)?;
        uris.iter().map(|uri| self.package(uri, &stanzas)).collect()
    }

    fn package(&self, uri: &Uri, stanzas: &[Stanza]) -> Result<(Stanza, Archive)> {
        for archive in [Archive::Debian, Archive::DebianSecurity] {
            let mirror = self.mirrors.of(archive)?;
            let Some(path) = uri.url.strip_prefix(mirror).and_then(|rest| rest.strip_prefix('/'))
            else {
                continue;
            };
            if let Some(stanza) =
                stanzas.iter().find(|stanza| stanza.path == path && stanza.size == uri.size)
            {
                return Ok((stanza.clone(), archive));
            }
        }
        bail!("the indexes do not list {}", uri.url)
    }

    /// Returns the release files that apt verified.
    fn releases(&self) -> Result<Vec<String>> {
        let lists = self.dir.path().join("lists");
        let mut releases = Vec::new();
        for entry in fs::read_dir(&lists).context("cannot read apt's lists")? {
            let path = entry.context("cannot read apt's lists")?.path();
            if path.to_string_lossy().ends_with("_InRelease") {
                releases.push(
                    fs::read_to_string(&path)
                        .with_context(|| format!("cannot read {}", path.display()))?,
                );
            }
        }
        Ok(releases)
    }
}

fn sources(mirrors: &Mirrors, keyring: &Path) -> Result<String> {
    let (debian, security) = (mirrors.of(Archive::Debian)?, mirrors.of(Archive::DebianSecurity)?);
    let line = |mirror: &str, suite: &str| {
        format!("deb [signed-by={}] {mirror} {suite} main\n", keyring.display())
    };
    let suites = [
        (debian, SUITE.to_owned()),
        (debian, format!("{SUITE}-updates")),
        (security, format!("{SUITE}-security")),
        (debian, OLDER.to_owned()),
    ];
    let mut text: String = suites.iter().map(|(mirror, suite)| line(mirror, suite)).collect();
    // Its release file expires after days, and mirrors lag, so its date is not checked. The lock
    // pins the files anyway.
    let _ = writeln!(
        text,
        "deb [signed-by={} check-valid-until=no] {debian} {NEWER} main",
        keyring.display()
    );
    Ok(text)
}

/// Prefers the package of another release if it has the name too (`apt_preferences(5)`).
fn preferences() -> String {
    format!("Package: *\nPin: release n={NEWER}\nPin-Priority: 100\n")
}

/// Returns the settings without which apt would use the host's, hooks of other packages included.
fn settings(dir: &Path, arch: &str) -> Result<String> {
    let dir = dir.to_str().filter(|dir| !dir.contains(['"', '\n']));
    let dir = dir.context("the temporary folder (TMPDIR) has a name that apt cannot read")?;
    Ok(format!(
        r#"Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "{dir}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "/dev/null";
Dir::Etc::preferences "{dir}/preferences";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{dir}";
Dir::State::lists "{dir}/lists";
Dir::State::status "{dir}/status";
Dir::Cache "{dir}/cache";
Dir::Log "{dir}/log";
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
"#
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_debians_keys_the_error_names_the_package() {
        let error = keyring(|_| false).unwrap_err().to_string();
        assert!(error.contains("install the package debian-archive-keyring"), "{error}");
        assert_eq!(
            keyring(|path| path.ends_with("debian-archive-keyring.pgp")).unwrap(),
            Path::new(KEYRINGS[1])
        );
    }

    #[test]
    fn every_source_names_the_key_it_must_be_signed_with() {
        let mirrors = Mirrors {
            debian: Some("http://m.test/debian".to_owned()),
            security: Some("http://m.test/debian-security".to_owned()),
            snapshot: None,
        };
        let text = sources(&mirrors, Path::new("/k.gpg")).unwrap();
        assert_eq!(
            text,
            "deb [signed-by=/k.gpg] http://m.test/debian trixie main\n\
             deb [signed-by=/k.gpg] http://m.test/debian trixie-updates main\n\
             deb [signed-by=/k.gpg] http://m.test/debian-security trixie-security main\n\
             deb [signed-by=/k.gpg] http://m.test/debian bookworm main\n\
             deb [signed-by=/k.gpg check-valid-until=no] http://m.test/debian forky main\n"
        );
    }

    #[test]
    fn a_folder_that_would_end_a_setting_is_refused() {
        assert!(settings(Path::new("/a b/é"), "amd64").is_ok());
        assert!(settings(Path::new("/a\"; Dir \"/"), "amd64").is_err());
    }
}
