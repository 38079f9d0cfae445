//! Credentials: small named files that the machine's owner hands to the node.
//!
//! They come from several sources, and the highest source that has a name wins. They become files
//! in one folder that only root can read. A credential that breaks a rule is one warning, and the
//! others count.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use kiln_base::replace::{self, Durability};
use kiln_contract::path::CREDENTIALS;
use kiln_contract::setting::{CREDENTIAL_BYTES_MAX, CREDENTIAL_COUNT_MAX, Credential};

use crate::console::kmsg;

/// The size of all credentials together, in bytes. Their file system has 8 MiB, and each file is
/// rounded up to a page.
const ALL_BYTES_MAX: usize = 7 * 1024 * 1024;

/// The longest name, in bytes.
const NAME_MAX: usize = 128;

/// A source of credentials. A later one wins over an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Files in the image's root, which a layer can add.
    Image,
    /// Files on a `NoCloud` disk.
    NoCloud,
    /// Files next to the UKI, which the EFI stub collects (systemd-stub(7)).
    Esp,
    /// QEMU's configuration device.
    FwCfg,
    /// SMBIOS type 11 strings (systemd-creds(1)).
    Smbios,
    /// Files that a privileged pod writes while the node runs.
    Late,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "the image",
            Self::NoCloud => "a NoCloud disk",
            Self::Esp => "a file next to the UKI",
            Self::FwCfg => "fw_cfg",
            Self::Smbios => "SMBIOS",
            Self::Late => "a pod",
        })
    }
}

/// Credentials by name.
#[derive(Debug, Default, Clone)]
pub struct Credentials {
    found: BTreeMap<String, (Source, Vec<u8>)>,
    bytes: usize,
    /// Lines for the console.
    pub warnings: Vec<String>,
    /// True if the number of credentials was reported.
    too_many: bool,
}

/// True if the name is safe as a file name: letters, digits, `.`, `_`, `-`, without a leading dot.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=NAME_MAX).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed)
}

impl Credentials {
    /// Adds a credential, unless a higher source has its name. An invalid one is a warning.
    pub fn add(&mut self, source: Source, name: &str, value: Vec<u8>) {
        if !is_name(name) {
            let next = "use at most 128 letters, digits, `.`, `_` and `-`";
            return self.refuse(source, name, "invalid name", next);
        }
        let old = self.found.get(name);
        if old.is_some_and(|(other, _)| *other >= source) {
            return;
        }
        let old_bytes = old.map(|(_, value)| value.len());
        if value.len() > CREDENTIAL_BYTES_MAX {
            let cause = format!("larger than {CREDENTIAL_BYTES_MAX} bytes");
            return self.refuse(source, name, &cause, "make it smaller");
        }
        if old_bytes.is_none() && self.found.len() == CREDENTIAL_COUNT_MAX {
            if !self.too_many {
                self.too_many = true;
                let cause = format!("there are more than {CREDENTIAL_COUNT_MAX} credentials");
                self.refuse(source, name, &cause, "others may be ignored too; remove some");
            }
            return;
        }
        let bytes = self.bytes - old_bytes.unwrap_or_default() + value.len();
        if bytes > ALL_BYTES_MAX {
            let cause = format!("all together are larger than {ALL_BYTES_MAX} bytes");
            return self.refuse(source, name, &cause, "make them smaller");
        }
        self.bytes = bytes;
        self.found.insert(name.into(), (source, value));
    }

    /// Reports a credential that is ignored.
    pub fn refuse(&mut self, source: Source, name: &str, cause: &str, next: &str) {
        let name: String = name.chars().take(NAME_MAX).collect();
        self.warnings.push(format!("credential {name:?} from {source}: {cause}, ignored; {next}"));
    }

    /// Adds a file as a credential. A file that cannot be read is a warning.
    pub fn add_file(&mut self, source: Source, name: &str, file: &Path) {
        match read_bounded(file) {
            Ok(value) => self.add(source, name, value),
            Err(error) => {
                let cause = format!("cannot read {}: {error}", file.display());
                self.refuse(source, name, &cause, "write the file again");
            }
        }
    }

    /// Adds the regular files of a folder. `name_of` returns a file's credential, or `None` for
    /// another file. A missing folder counts as empty.
    pub fn add_folder(
        &mut self,
        source: Source,
        folder: &Path,
        name_of: impl Fn(&str) -> Option<&str>,
    ) {
        let mut names: Vec<_> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort_unstable();
        for file in names {
            if let Some(name) = name_of(&file) {
                self.add_file(source, name, &folder.join(&file));
            }
        }
    }

    /// Returns a credential's bytes.
    #[must_use]
    pub fn value(&self, credential: &Credential) -> Option<&[u8]> {
        self.found.get(credential.name).map(|(_, value)| value.as_slice())
    }

    /// Returns names and sources, sorted by name.
    pub fn sources(&self) -> impl Iterator<Item = (&str, Source)> {
        self.found.iter().map(|(name, (source, _))| (name.as_str(), *source))
    }

    /// Returns names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.found.iter().map(|(name, (_, value))| (name.as_str(), value.as_slice()))
    }

    /// Writes the credentials of one source, or of all, as files, and reports their source.
    pub fn keep(&self, only: Option<Source>) {
        for (name, (source, value)) in &self.found {
            if only.is_none_or(|only| only == *source) {
                kmsg::notice(format_args!("credential {name} from {source}"));
                let _ = kmsg::warn_on_error(store(Path::new(CREDENTIALS), name, value));
            }
        }
    }

    /// Reads the kept credentials. Their sources are not kept, so all of them have the lowest one.
    #[must_use]
    pub fn kept() -> Self {
        let mut credentials = Self::default();
        credentials.add_folder(Source::Image, Path::new(CREDENTIALS), |name| Some(name));
        credentials
    }

    /// Prints the warnings, each once.
    pub fn warn(&mut self) {
        self.warnings.drain(..).for_each(kmsg::warn);
    }
}

/// Writes a credential as a file that only root can read.
pub fn store(folder: &Path, name: &str, value: &[u8]) -> Result<()> {
    let file = folder.join(name);
    replace::write(&file, value, 0o400, Durability::None)
        .with_context(|| format!("cannot write {}", file.display()))
}

/// Reads a file up to one byte more than a credential may have.
fn read_bounded(file: &Path) -> std::io::Result<Vec<u8>> {
    read_file(file, CREDENTIAL_BYTES_MAX as u64 + 1)
}

/// Reads at most `max` bytes of a regular file.
pub fn read_file(file: &Path, max: u64) -> std::io::Result<Vec<u8>> {
    let open = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(file)?;
    if !open.metadata()?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let mut value = Vec::new();
    open.take(max).read_to_end(&mut value)?;
    Ok(value)
}

/// Returns the bytes of a kept credential.
#[must_use]
pub fn kept(credential: &Credential) -> Option<Vec<u8>> {
    read_bounded(&Path::new(CREDENTIALS).join(credential.name)).ok()
}

/// Returns the names of all kept credentials with a prefix, sorted.
#[must_use]
pub fn names(credential: &Credential) -> Vec<String> {
    let entries = fs::read_dir(CREDENTIALS).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(credential.name)).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use kiln_contract::setting::NODE;

    use super::{Credentials, Source, is_name};

    #[test]
    fn a_name_never_leaves_the_folder() {
        for name in ["kiln.hostname", "a", "kiln.pod.web-1"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", "../a", "a/b", "a b", "ä", ".hidden", &"a".repeat(129)] {
            assert!(!is_name(name), "{name}");
        }
    }

    /// Adds a good credential, then others, and checks that there is one warning and that the good
    /// one counts.
    fn check(others: &[(&str, &[u8])], warning: &str) {
        let mut credentials = Credentials::default();
        credentials.add(Source::Image, NODE.name, b"good".into());
        for (name, value) in others {
            credentials.add(Source::Smbios, name, (*value).into());
        }
        assert_eq!(credentials.warnings, [warning]);
        assert_eq!(credentials.value(&NODE), Some(&b"good"[..]));
    }

    #[test]
    fn a_bad_credential_is_one_line_and_the_others_count() {
        check(
            &[("../a", b"")],
            "credential \"../a\" from SMBIOS: invalid name, ignored; use at most 128 letters, digits, \
             `.`, `_` and `-`",
        );
        check(
            &[("a", &vec![0; 1024 * 1024 + 1])],
            "credential \"a\" from SMBIOS: larger than 1048576 bytes, ignored; make it smaller",
        );
        let names: Vec<String> = (0..70).map(|n| format!("c{n:02}")).collect();
        let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
        check(
            &many,
            "credential \"c63\" from SMBIOS: there are more than 64 credentials, ignored; others may \
             be ignored too; remove some",
        );
        let large = vec![0; 1024 * 1024];
        let seven: Vec<(&str, &[u8])> =
            names[..7].iter().map(|name| (name.as_str(), large.as_slice())).collect();
        check(
            &seven,
            "credential \"c06\" from SMBIOS: all together are larger than 7340032 bytes, ignored; make \
             them smaller",
        );
    }

    #[test]
    fn the_highest_source_wins_in_any_order() {
        let all = [
            Source::Image,
            Source::NoCloud,
            Source::Esp,
            Source::FwCfg,
            Source::Smbios,
            Source::Late,
        ];
        for first in all {
            for second in all {
                let mut credentials = Credentials::default();
                for source in [first, second] {
                    credentials.add(source, "a", source.to_string().into_bytes());
                }
                let expected = first.max(second);
                assert_eq!(credentials.sources().collect::<Vec<_>>(), [("a", expected)]);
                assert_eq!(credentials.iter().next().unwrap().1, expected.to_string().as_bytes());
            }
        }
    }

    #[test]
    fn a_replaced_credential_does_not_count_twice() {
        let mut credentials = Credentials::default();
        for source in [Source::Image, Source::Esp, Source::Smbios] {
            for n in 0..6 {
                credentials.add(source, &format!("c{n}"), vec![0; 1024 * 1024]);
            }
        }
        assert!(credentials.warnings.is_empty());
    }

    #[test]
    fn the_files_of_a_folder_are_taken_and_links_are_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("b.cred"), "b").unwrap();
        std::fs::write(folder.path().join("a.cred"), "a").unwrap();
        std::fs::write(folder.path().join("other"), "").unwrap();
        std::os::unix::fs::symlink("a.cred", folder.path().join("c.cred")).unwrap();
        let mut credentials = Credentials::default();
        credentials.add_folder(Source::Image, folder.path(), |file| file.strip_suffix(".cred"));
        let names: Vec<_> = credentials.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
