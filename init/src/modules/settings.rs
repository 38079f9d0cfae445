//! The owner's settings for modules: `modprobe.d` files (modprobe.d(5)) and the kernel's command
//! line (`MODULE.NAME=VALUE`, `modprobe.blacklist=`).
//!
//! `install` and `remove` commands need a shell and are ignored, except for the common `install
//! NAME /bin/false`, which forbids a module.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::name::canonical;
use super::pattern;
use crate::machine::parameters;

/// Folders of `*.conf` files. If two files have the same name, the first folder's file wins.
const FOLDERS: [&str; 3] = ["/etc/modprobe.d", "/run/modprobe.d", "/usr/lib/modprobe.d"];

/// Programs that do nothing. `install` names one of them to forbid a module.
const NEVER: [&str; 4] = ["/bin/false", "/bin/true", "/usr/bin/false", "/usr/bin/true"];

/// All settings.
#[derive(Debug, Default)]
pub struct Settings {
    options: Vec<(String, String)>,
    /// Modules that are not loaded through an alias.
    pub(super) blacklist: HashSet<String>,
    /// Modules that are not loaded by name either.
    never: HashSet<String>,
    /// Canonical patterns and their modules.
    pub(super) aliases: Vec<(String, String)>,
    /// `softdep` lines.
    pub(super) soft: String,
}

impl Settings {
    /// Reads the settings of the running system. It reads files at fixed paths only, so it is
    /// safe in any environment.
    #[must_use]
    pub fn of_system() -> Self {
        let mut settings = Self::default();
        for file in files(&FOLDERS.map(Path::new)) {
            settings.take_config(&fs::read_to_string(file).unwrap_or_default());
        }
        settings.take_cmdline(&fs::read_to_string("/proc/cmdline").unwrap_or_default());
        settings
    }

    /// Adds a `modprobe.d` file. Malformed lines are skipped.
    pub fn take_config(&mut self, text: &str) {
        for line in text.replace("\\\n", "").lines().map(str::trim) {
            let Some((command, rest)) = line.split_once(char::is_whitespace) else { continue };
            let rest = rest.trim();
            let (name, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
            let value = value.trim();
            match command {
                "alias" if !value.is_empty() => {
                    self.aliases.push((pattern::canonical(name), canonical(value)));
                }
                "blacklist" => drop(self.blacklist.insert(canonical(name))),
                "options" => self.options.push((canonical(name), value.to_owned())),
                "install" if NEVER.contains(&value) => drop(self.never.insert(canonical(name))),
                "softdep" => self.soft.extend([line, "\n"]),
                _ => {}
            }
        }
    }

    /// Adds the kernel's command line.
    pub fn take_cmdline(&mut self, line: &str) {
        for word in parameters::words(line) {
            let Some((module, option)) = word.split_once('.') else { continue };
            if let ("modprobe", Some(names)) = (module, option.strip_prefix("blacklist=")) {
                self.blacklist.extend(names.split(',').map(canonical));
            } else if !option.contains('\n') {
                self.options.push((canonical(module), option.to_owned()));
            }
        }
    }

    /// Returns the parameters for a module, in the order of the settings, so that the last one
    /// wins.
    #[must_use]
    pub fn options(&self, module: &str) -> String {
        let options = self.options.iter().filter(|(name, _)| name == module);
        options.map(|(_, option)| option.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// True if a module must not be loaded at all.
    #[must_use]
    pub fn forbids(&self, module: &str) -> bool {
        self.never.contains(module)
    }

    /// True if a module must not be loaded through an alias.
    #[must_use]
    pub fn hides(&self, module: &str) -> bool {
        self.blacklist.contains(module) || self.forbids(module)
    }
}

/// Returns the files to read, sorted by name.
fn files(folders: &[&Path]) -> Vec<PathBuf> {
    let mut found = BTreeMap::new();
    for folder in folders {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().ends_with(".conf") {
                found.entry(name).or_insert_with(|| entry.path());
            }
        }
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::{Settings, files};

    #[test]
    fn parameters_of_a_module_come_from_files_and_the_command_line() {
        let mut settings = Settings::default();
        settings.take_config("# x\noptions nf-conntrack a=1 b=2 \\\n  c=3\n\noptions\n");
        settings.take_cmdline("quiet nf-conntrack.a=4 nf_conntrack.d=\"x y\" other.c=2");
        assert_eq!(settings.options("nf_conntrack"), "a=1 b=2   c=3 a=4 d=x y");
        assert_eq!(settings.options("nf"), "");
    }

    #[test]
    fn a_module_can_be_hidden_or_forbidden() {
        let mut settings = Settings::default();
        settings.take_config("blacklist a-b\ninstall c /bin/false\ninstall d /sbin/modprobe d\n");
        settings.take_cmdline("modprobe.blacklist=e,f-g");
        for name in ["a_b", "c", "e", "f_g"] {
            assert!(settings.hides(name), "{name}");
        }
        assert!(settings.forbids("c") && !settings.forbids("a_b") && !settings.hides("d"));
    }

    #[test]
    fn if_two_files_have_one_name_the_first_folder_wins() {
        let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (folder, name) in
            [(&first, "b.conf"), (&second, "b.conf"), (&second, "a.conf"), (&second, "x")]
        {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let expected = [second.path().join("a.conf"), first.path().join("b.conf")];
        assert_eq!(files(&[first.path(), second.path(), "/nowhere".as_ref()]), expected);
    }
}
