//! Gathers the credentials from all sources, and reads `kiln.node`.
//!
//! A thread does this before it searches for the data partition, because `kiln.node` has the policy
//! for it. The sources without a disk come first, so that a disk that hangs hides only its own
//! credentials.

use std::fs;
use std::path::Path;

use kiln_contract::path;
use kiln_contract::setting::NODE;

use crate::console::kmsg;
use crate::machine::credential::{Credentials, Source};
use crate::machine::nocloud::Disk;
use crate::machine::{fw_cfg, smbios};
use crate::modules::load;
use crate::settings::{self, Settings};
use crate::storage::nocloud;

/// The results of gathering.
#[derive(Debug, Default, Clone)]
pub struct Gathered {
    /// The settings in `kiln.node`.
    pub settings: Settings,
    /// The name on a `NoCloud` disk.
    pub disk_hostname: Option<String>,
    /// The credentials of a `NoCloud` disk, which the main thread must keep.
    from_disk: Credentials,
}

/// Adds the credentials of all sources without a disk to those next to the UKI, and keeps them.
pub fn gather(credentials: &mut Credentials) -> Gathered {
    smbios::add(credentials);
    load_fw_cfg();
    fw_cfg::add(credentials);
    credentials.add_folder(Source::Image, Path::new(path::BAKED_CREDENTIALS), |name| Some(name));
    credentials.warn();
    credentials.keep(None);
    Gathered { settings: read_settings(credentials), ..Gathered::default() }
}

/// Adds the credentials of a `NoCloud` disk, if there is one.
pub fn gather_from_disk(mut credentials: Credentials, before: Gathered) -> Gathered {
    let Disk { hostname, found } = nocloud::find_and_read(&mut credentials);
    if !found {
        return before;
    }
    credentials.warn();
    let changed =
        credentials.sources().any(|(name, source)| name == NODE.name && source == Source::NoCloud);
    let settings = if changed { read_settings(&credentials) } else { before.settings };
    Gathered { settings, disk_hostname: hostname, from_disk: credentials }
}

impl Gathered {
    /// Writes the credentials of a `NoCloud` disk as files. The main thread calls it, so that a disk
    /// that answers too late changes nothing.
    pub fn keep(&mut self) {
        std::mem::take(&mut self.from_disk).keep(Some(Source::NoCloud));
    }
}

/// Reads `kiln.node` and reports its mistakes.
fn read_settings(credentials: &Credentials) -> Settings {
    let Some(text) = credentials.value(&NODE) else { return Settings::default() };
    let (settings, problems) = settings::parse(text);
    problems.lines().iter().for_each(kmsg::warn);
    settings
}

/// Loads the driver of QEMU's configuration device if the machine has the device.
fn load_fw_cfg() {
    if !fw_cfg::needs_driver() {
        return;
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let file = Path::new(path::MODULES).join(release.trim()).join(fw_cfg::MODULE);
    let _ = kmsg::warn_on_error(load::load_file(&file, ""));
}
