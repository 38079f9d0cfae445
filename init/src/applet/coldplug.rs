//! The second process of the boot: everything about modules that containerd's start does not need.
//!
//! First the image's own list, then the modules of the hardware that is there, found by the
//! modaliases in sysfs; twice, since a driver's probing brings up new devices (a power button's
//! driver makes an input device). Mounts that only pods want are made here too, and at the end
//! the settings that depend on modules.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use kiln_contract::path::MODULE_LIST;

use crate::modules::{self, Found, Index, Step};
use crate::{kmsg, mounts, sysctl};

/// sysfs.
const SYSFS: &str = "/sys";

/// Classes whose devices are on no bus and have a modalias.
const CLASSES: [&str; 2] = ["dmi", "input"];

/// Walks over the devices. Each finds what the one before it brought up.
const ROUNDS: usize = 2;

/// Does all of it. A module that fails is a warning.
#[must_use]
pub fn run() -> i32 {
    kmsg::open();
    let begin = Instant::now();
    let loaded = kmsg::warn_on_error(load_all());
    let _ = kmsg::warn_on_error(mounts::apply_all(&mounts::LATE));
    sysctl::apply(sysctl::When::Module);
    if let Some(count) = loaded {
        let millis = begin.elapsed().as_millis();
        kmsg::notice(format_args!("{count} modules loaded beside the boot in {millis} ms"));
    }
    0
}

fn load_all() -> Result<usize> {
    let index = Index::of_running_kernel()?;
    let mut done = BTreeSet::new();
    // Network first: the pod that configures it waits for the interface.
    for round in 0..ROUNDS {
        let mut aliases = modaliases(Path::new(SYSFS));
        aliases.sort_by_key(|alias| !alias.starts_with("virtio:d00000001"));
        for alias in aliases {
            load(&index, &alias, &mut done, false);
        }
        if round == 0 {
            let list = fs::read_to_string(index.folder().join(MODULE_LIST)).unwrap_or_default();
            for name in list.lines().map(str::trim).filter(|name| !name.is_empty()) {
                load(&index, name, &mut done, true);
            }
        }
    }
    Ok(done.len())
}

/// Loads what a name or alias stands for. Unknown hardware is normal, an unknown name in the
/// image's list is not.
fn load(index: &Index, name: &str, done: &mut BTreeSet<PathBuf>, must_exist: bool) {
    match index.find(name) {
        Found::Load(steps) => steps.iter().for_each(|step| load_once(step, done)),
        Found::Unknown if must_exist => kmsg::warn(format_args!("module {name}: not in the image")),
        Found::Unknown | Found::Builtin => {}
    }
}

fn load_once(step: &Step, done: &mut BTreeSet<PathBuf>) {
    if done.insert(step.file.clone()) && !is_loaded(&step.name) {
        let _ = kmsg::warn_on_error(modules::load_file(&step.file, ""));
    }
}

fn is_loaded(name: &str) -> bool {
    Path::new("/sys/module").join(name).join("initstate").exists()
}

/// The modaliases of all devices, each once.
///
/// Not a walk over `devices`: that has ten times as many folders, and takes ten times as long.
fn modaliases(sysfs: &Path) -> Vec<String> {
    let children = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
    let buses = children(sysfs.join("bus")).map(|bus| bus.path().join("devices"));
    let classes = CLASSES.map(|class| sysfs.join("class").join(class));
    let devices = buses.chain(classes).flat_map(children);
    let aliases = devices.filter_map(|at| fs::read_to_string(at.path().join("modalias")).ok());
    let found: BTreeSet<_> = aliases.map(|alias| alias.trim().to_owned()).collect();
    found.into_iter().filter(|alias| !alias.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::modaliases;

    #[test]
    fn every_modalias_is_found_once() {
        let sysfs = tempfile::tempdir().unwrap();
        for (device, alias) in [
            ("bus/pci/devices/1", "x:1\n"),
            ("bus/pci/devices/2", "x:2\n"),
            ("bus/usb/devices/1", "x:1\n"),
            ("bus/usb/devices/2", "\n"),
            ("class/input/input1", "input:1\n"),
        ] {
            let folder = sysfs.path().join(device);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("modalias"), alias).unwrap();
        }
        assert_eq!(modaliases(sysfs.path()), ["input:1", "x:1", "x:2"]);
    }
}
