//! Writes containerd's files into `/etc`, which is in memory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use kiln_base::replace::{self, Durability};
use kiln_contract::path::{AUTHORITIES, CERTIFICATES, OWN_AUTHORITIES, REGISTRIES};
use rustix::mount::{UnmountFlags, mount_bind, unmount};

use super::authority::{self, Authority};
use super::registry::{self, HEADER, Hosts};
use crate::console::kmsg;
use crate::machine::credential::Credentials;
use crate::settings::Settings;

/// Writes the files of registries and authorities, and reports invalid ones. Call it again when a
/// credential has changed.
pub fn apply(credentials: &Credentials, settings: &Settings) {
    let (authorities, invalid) = authority::of_credentials(credentials.iter());
    let (hosts, missing) = registry::hosts(&settings.registries, &authorities);
    invalid.iter().chain(&missing).for_each(kmsg::warn);
    let _ = kmsg::warn_on_error(write_authorities(&authorities));
    let _ = kmsg::warn_on_error(write_registries(Path::new(REGISTRIES), &hosts));
}

/// Makes the image's bundle visible at its usual place, with the owner's authorities if there are
/// any.
///
/// Without them it is a mount of the file in the read-only root, which needs no memory. A link
/// would lead nowhere in a pod that mounts `/etc/ssl/certs`.
fn write_authorities(authorities: &[Authority]) -> Result<()> {
    let file = Path::new(CERTIFICATES);
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let _ = unmount(file, UnmountFlags::DETACH);
    let _ = fs::remove_dir_all(OWN_AUTHORITIES);
    if authorities.is_empty() {
        if !Path::new(AUTHORITIES).exists() {
            // An image without the package.
            let _ = fs::remove_file(file);
            return Ok(());
        }
        File::create(file).with_context(|| format!("cannot make {CERTIFICATES}"))?;
        return mount_bind(AUTHORITIES, file)
            .with_context(|| format!("cannot mount {AUTHORITIES} on {CERTIFICATES}"));
    }
    fs::create_dir_all(OWN_AUTHORITIES)
        .with_context(|| format!("cannot make {OWN_AUTHORITIES}"))?;
    for authority in authorities {
        write(Path::new(&authority.file()), &authority.pem, 0o644)?;
    }
    let image = fs::read_to_string(AUTHORITIES).unwrap_or_default();
    write(file, &authority::bundle(&image, authorities), 0o644)
}

/// Writes the files of registries, and removes those that an earlier call wrote and that are no
/// longer wanted. A file that another program wrote stays.
fn write_registries(root: &Path, all: &[Hosts]) -> Result<()> {
    let wanted: BTreeSet<&str> = all.iter().map(|hosts| hosts.folder.as_str()).collect();
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let file = entry.path().join("hosts.toml");
        let name = entry.file_name().into_string().unwrap_or_default();
        if is_ours(&file) && !wanted.contains(name.as_str()) {
            let _ = fs::remove_file(&file);
            // A folder with other files stays.
            let _ = fs::remove_dir(entry.path());
        }
    }
    for Hosts { folder, text } in all {
        let folder = root.join(folder);
        let file = folder.join("hosts.toml");
        if file.exists() && !is_ours(&file) {
            let file = file.display();
            kmsg::warn(format_args!("{file} is not from kiln.node and stays; remove it"));
            continue;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        // It may contain a password.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("cannot set the mode of {}", folder.display()))?;
        write(&file, text, 0o600)?;
    }
    Ok(())
}

fn is_ours(file: &Path) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.starts_with(HEADER))
}

fn write(file: &Path, text: &str, mode: u32) -> Result<()> {
    replace::write(file, text.as_bytes(), mode, Durability::None)
        .with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::write_registries;
    use crate::containerd::registry::{HEADER, Hosts};

    fn hosts(folder: &str, text: &str) -> Hosts {
        Hosts { folder: folder.into(), text: format!("{HEADER}{text}") }
    }

    fn text(root: &Path, folder: &str) -> Option<String> {
        let text = fs::read_to_string(root.join(folder).join("hosts.toml")).ok()?;
        Some(text.trim_start_matches(HEADER).to_owned())
    }

    #[test]
    fn files_follow_the_settings_and_those_of_other_programs_stay() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir(root.join("other")).unwrap();
        fs::write(root.join("other/hosts.toml"), "theirs").unwrap();
        write_registries(root, &[hosts("a:5000", "1"), hosts("b", "1"), hosts("other", "1")])
            .unwrap();
        assert_eq!(text(root, "a:5000").as_deref(), Some("1"));
        assert_eq!(text(root, "other").as_deref(), Some("theirs"));
        write_registries(root, &[hosts("b", "2")]).unwrap();
        assert_eq!((text(root, "a:5000"), text(root, "b").as_deref()), (None, Some("2")));
        assert!(!root.join("a:5000").exists());
        assert_eq!(text(root, "other").as_deref(), Some("theirs"));
    }
}
