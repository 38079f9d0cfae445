//! The choice of a Debian mirror: the environment's, or the one that the host's own apt uses.
//!
//! Repositories of other vendors are in the same files, some of them under the names of Debian's
//! releases (`bookworm main`). An entry counts only if its suite is one of Debian's, it has `main`,
//! and the key that signs it, if it names one, is Debian's. `sources.list(5)` describes both forms.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::lock::{Archive, Origin};

/// The variable that names the mirror of Debian's archive.
pub const DEBIAN: &str = "KILN_DEBIAN_MIRROR";
/// The variable that names the mirror of Debian's security archive.
pub const SECURITY: &str = "KILN_DEBIAN_SECURITY_MIRROR";
/// The variable that names a mirror of snapshots: `$KILN_DEBIAN_SNAPSHOT/debian/20261121T000000Z/pool/…`.
pub const SNAPSHOT: &str = "KILN_DEBIAN_SNAPSHOT";

/// The folder of apt's sources.
const APT: &str = "/etc/apt";

/// Debian's names of releases. A mirror that has one of them has the others too.
const RELEASES: [&str; 9] = [
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "sid",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// The prefix of file names of Debian's archive keys, in `/usr/share/keyrings` and elsewhere.
const DEBIAN_KEYS: &str = "debian-archive-";

/// Addresses of mirrors, without a slash at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mirrors {
    /// The mirror of the archive.
    pub debian: Option<String>,
    /// The mirror of the security archive.
    pub security: Option<String>,
    /// The mirror of snapshots of both.
    pub snapshot: Option<String>,
}

/// One `deb` entry of apt's sources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Entry {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    signed_by: Option<String>,
}

impl Mirrors {
    /// Reads the environment and the host's apt sources.
    pub fn of_host() -> Result<Self> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let mut mirrors = Self::from_environment(variable)?;
        if mirrors.debian.is_none() || mirrors.security.is_none() {
            mirrors.add(&host_entries(Path::new(APT))?);
        }
        Ok(mirrors)
    }

    fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let address = |name: &str| -> Result<Option<String>> {
            let Some(value) = variable(name) else { return Ok(None) };
            let value = value.to_str().filter(|value| is_http(value));
            let value =
                value.with_context(|| format!("{name} must be an http:// or https:// address"))?;
            Ok(Some(trimmed(value)))
        };
        let debian = address(DEBIAN)?;
        // Most mirrors have the security archive next to the archive.
        let sibling = debian.as_deref().and_then(|mirror| {
            Some(format!("{}/debian-security", mirror.strip_suffix("/debian")?))
        });
        Ok(Self { security: address(SECURITY)?.or(sibling), snapshot: address(SNAPSHOT)?, debian })
    }

    /// Fills missing mirrors from apt's sources.
    fn add(&mut self, entries: &[Entry]) {
        let main =
            choose(entries, |suite| is_release(suite.strip_suffix("-updates").unwrap_or(suite)));
        let security =
            choose(entries, |suite| suite.strip_suffix("-security").is_some_and(is_release));
        self.debian = self.debian.take().or(main);
        self.security = self.security.take().or(security);
    }

    /// Returns the mirror of an archive; the error names the next step.
    pub fn of(&self, archive: Archive) -> Result<&str> {
        let (mirror, variable) = match archive {
            Archive::Debian => (&self.debian, DEBIAN),
            Archive::DebianSecurity => (&self.security, SECURITY),
        };
        mirror.as_deref().with_context(|| {
            format!(
                "apt's sources in {APT} name no http mirror of Debian's archive `{}`; set {variable} to the address of one",
                archive.name()
            )
        })
    }

    /// Returns the addresses of a file, best first.
    pub(super) fn candidates(&self, origin: &Origin) -> Result<Vec<String>> {
        let (archive, path, snapshot) = match origin {
            Origin::Url(url) => return Ok(vec![url.clone()]),
            Origin::Pool { archive, path, snapshot, .. } => (*archive, path, snapshot),
        };
        let path = escaped(path);
        let mut candidates = vec![format!("{}/{path}", self.of(archive)?)];
        if let Some(mirror) = &self.snapshot {
            candidates.push(format!("{mirror}/{}/{snapshot}/{path}", archive.name()));
        }
        Ok(candidates)
    }
}

/// Reads all entries of a host: `sources.list` and both kinds of files below `sources.list.d`.
fn host_entries(apt: &Path) -> Result<Vec<Entry>> {
    let read = |path: &Path| match fs::read(path) {
        Ok(text) => Ok(String::from_utf8_lossy(&text).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut entries = parse_list(&read(&apt.join("sources.list"))?);
    for path in sorted(&apt.join("sources.list.d")) {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("list") => entries.extend(parse_list(&read(&path)?)),
            Some("sources") => entries.extend(parse_deb822(&read(&path)?)),
            _ => {}
        }
    }
    for entry in &mut entries {
        entry.uris = entry
            .uris
            .drain(..)
            .flat_map(|uri| resolve_list(uri, |path| fs::read_to_string(path).ok()))
            .collect();
    }
    Ok(entries)
}

/// A host without sources has no such folder.
fn sorted(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

/// Reads `mirror+file:/etc/apt/mirrors/debian.list`, as in Debian's cloud images: a file with one
/// address per line.
fn resolve_list(uri: String, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let Some(path) = uri.strip_prefix("mirror+file:") else { return vec![uri] };
    let path = format!("/{}", path.trim_start_matches('/'));
    let text = read(&path).unwrap_or_default();
    text.lines()
        .filter_map(|line| uncommented(line).split_whitespace().next().map(str::to_owned))
        .collect()
}

/// Parses the one-line form: `deb [options] uri suite component…`.
fn parse_list(text: &str) -> Vec<Entry> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Entry> {
    let rest = uncommented(line).trim().strip_prefix("deb")?;
    let rest = rest.strip_prefix(|c: char| c.is_whitespace())?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    Some(Entry {
        uris: vec![uri],
        suites: vec![suite],
        components: words.collect(),
        signed_by: signed_by.map(str::to_owned),
    })
}

/// Parses the deb822 form: paragraphs of `Key: value`, continued by lines that start with a blank.
fn parse_deb822(text: &str) -> Vec<Entry> {
    let uncommented: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    uncommented.split(|line| line.trim().is_empty()).filter_map(parse_paragraph).collect()
}

fn parse_paragraph(lines: &[&str]) -> Option<Entry> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in lines {
        if line.starts_with(char::is_whitespace) {
            let (_, value) = fields.last_mut()?;
            *value = format!("{value}\n{}", line.trim());
        } else {
            let (key, value) = line.split_once(':')?;
            fields.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    let field =
        |key: &str| fields.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
    let words =
        |key: &str| field(key).unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let types: Vec<String> = words("types");
    let disabled = field("enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
    (types.iter().any(|kind| kind == "deb") && !disabled).then(|| Entry {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        signed_by: field("signed-by").map(|value| value.trim().to_owned()),
    })
}

/// Chooses the first entry that names Debian's key, else one without a key whose address contains
/// `debian`, else any without a key.
fn choose(entries: &[Entry], is_suite: impl Fn(&str) -> bool) -> Option<String> {
    let fits = |entry: &&Entry| {
        entry.suites.iter().any(|suite| is_suite(suite))
            && entry.components.iter().any(|name| name == "main")
    };
    let rank = |entry: &Entry, uri: &str| match &entry.signed_by {
        Some(key) if is_debian_key(key) => Some(0),
        Some(_) => None,
        None if uri.contains("debian") => Some(1),
        None => Some(2),
    };
    let uris = entries.iter().filter(fits).flat_map(|entry| {
        entry
            .uris
            .iter()
            .filter(|uri| is_http(uri))
            .filter_map(move |uri| Some((rank(entry, uri)?, uri)))
    });
    // `min_by_key` returns the first of equals.
    uris.min_by_key(|(rank, _)| *rank).map(|(_, uri)| trimmed(uri))
}

/// A key inside the file itself can be any vendor's.
fn is_debian_key(signed_by: &str) -> bool {
    let mut files = signed_by.split([',', ' ', '\n']).filter(|part| !part.is_empty()).peekable();
    files.peek().is_some()
        && files
            .all(|file| file.rsplit('/').next().is_some_and(|name| name.starts_with(DEBIAN_KEYS)))
}

fn is_release(suite: &str) -> bool {
    RELEASES.contains(&suite)
}

fn is_http(uri: &str) -> bool {
    let host = uri.strip_prefix("http://").or_else(|| uri.strip_prefix("https://"));
    host.is_some_and(|host| !host.is_empty() && !uri.contains(char::is_whitespace))
}

fn trimmed(uri: &str) -> String {
    uri.trim_end_matches('/').to_owned()
}

fn uncommented(line: &str) -> &str {
    line.split('#').next().unwrap_or_default()
}

/// Escapes `+`, as apt does, because some object stores behind mirrors decode it as a space. A `%`
/// in a name of the pool is one of the file's own characters.
fn escaped(path: &str) -> String {
    path.replace('%', "%25").replace('+', "%2b").replace('~', "%7e")
}

#[cfg(test)]
mod tests;
