//! The helpers `kiln-coldplug` and `kiln-hotplug`, which load modules for hardware. They are
//! processes of their own, because a driver's start can take seconds or hang.
//!
//! `kiln-coldplug` does at boot everything about modules that containerd does not need to start. It
//! loads modules for the hardware, found by the modaliases in sysfs, then the image's own list,
//! then modules for the hardware again, because drivers bring up new devices (a power button's
//! driver makes an input device). It also makes the device nodes whose drivers are loaded on demand,
//! the mounts that only pods use, then the settings that depend on modules, and finally locks modules
//! if the owner asks for that.
//!
//! `kiln-hotplug` later loads modules for the devices that PID 1 was notified of, or for all
//! devices.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use kiln_contract::path::{DEVICES_LOCK, MODULE_LIST};
use kiln_contract::setting::{LOCK_MODULES, NODE};
use rustix::fs::{FlockOperation, flock};

use super::{nodes, unknown};
use crate::console::{kmsg, once};
use crate::devices::device::Device;
use crate::kernel::mount;
use crate::kernel::sysctl;
use crate::machine::{credential, parameters};
use crate::modules::index::{Found, Index, ModuleFile};
use crate::modules::load;
use crate::modules::settings::Settings;
use crate::settings;

/// The mount point of sysfs.
const SYSFS: &str = "/sys";

/// Classes with devices that are on no bus but have a modalias.
const CLASSES: [&str; 2] = ["dmi", "input"];

/// The longest wait for another process that loads modules: a third of the helper's own time limit.
pub const WAIT: Duration = Duration::from_secs(20);

/// The pause between two attempts to get the lock.
const LOOK: Duration = Duration::from_millis(50);

/// The modalias of a virtual network card. Its driver is loaded first, because the pod that
/// configures the interface waits for it.
const NETWORK: &str = "virtio:d00000001";

/// The argument with which `kiln-coldplug` only applies the settings of the node again.
pub const SETTINGS_ONLY: &str = "settings";

/// Runs `kiln-coldplug`. A module that fails is a warning.
#[must_use]
pub fn run(args: &[String]) -> i32 {
    kmsg::open();
    let _alone = alone();
    if args == [SETTINGS_ONLY] {
        let loaded = Loader::new(load::is_loaded).map(|mut loader| loader.load_own());
        let _ = kmsg::warn_on_error(loaded);
        apply_own_sysctls();
        return 0;
    }
    let begin = Instant::now();
    let loaded = kmsg::warn_on_error(load_at_boot());
    nodes::make_all();
    let _ = kmsg::warn_on_error(mount::apply_all(&mount::LATE));
    sysctl::apply(sysctl::When::Offered);
    apply_own_sysctls();
    if let Some(count) = loaded {
        let millis = begin.elapsed().as_millis();
        kmsg::notice(format_args!("{count} modules loaded in the background in {millis} ms"));
    }
    if parameters::of_kernel().is(&LOCK_MODULES, "yes")
        && kmsg::warn_on_error(load::lock()).is_some()
    {
        kmsg::notice("modules are locked until the next boot");
    }
    0
}

/// Applies the kernel settings of the node, and reports those that do not exist.
fn apply_own_sysctls() {
    for name in sysctl::apply_own(&node_settings().sysctls) {
        kmsg::warn(format_args!(
            "{}: sysctls: the kernel has no {name}; load its module with `modules`",
            NODE.name
        ));
    }
}

/// Returns the settings of the node. PID 1 has reported their mistakes.
fn node_settings() -> settings::Settings {
    let text = credential::kept(&NODE).unwrap_or_default();
    settings::parse(&text).0
}

/// Runs `kiln-hotplug`. `args` are modaliases and paths in turn, or nothing for all devices.
#[must_use]
pub fn hotplug(args: &[String]) -> i32 {
    kmsg::open();
    let _alone = alone();
    // With all devices, skip a module that is starting, because its driver may hang. With
    // chosen devices, wait for it, so that PID 1 learns which driver hangs.
    let (devices, skip): (_, Skip) = if args.is_empty() {
        (devices(Path::new(SYSFS)), load::is_begun)
    } else {
        (pairs(args), load::is_loaded)
    };
    match Loader::new(skip) {
        Ok(mut loader) => {
            loader.load_all(&devices);
            loader.report_all(&devices);
            0
        }
        Err(error) => {
            kmsg::warn(format_args!("{error:#}"));
            1
        }
    }
}

/// Waits until no other process loads modules for devices, with a time limit, because a process
/// with a hanging driver does not end. Two processes at the same time only do some work twice.
/// Without `/run` there is no wait.
fn alone() -> Option<File> {
    let file = File::create(DEVICES_LOCK).ok()?;
    let begin = Instant::now();
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if begin.elapsed() >= WAIT {
            return None;
        }
        std::thread::sleep(LOOK);
    }
    Some(file)
}

fn pairs(args: &[String]) -> Vec<Device> {
    let device = |pair: &[String]| match pair {
        [modalias, path] => Some(Device { modalias: modalias.clone(), path: path.clone() }),
        _ => None,
    };
    args.chunks(2).filter_map(device).collect()
}

fn load_at_boot() -> Result<usize> {
    let mut loader = Loader::new(load::is_begun)?;
    loader.load_all(&devices(Path::new(SYSFS)));
    loader.load_list();
    let devices = devices(Path::new(SYSFS));
    loader.load_all(&devices);
    loader.report_all(&devices);
    Ok(loader.done.len())
}

/// True for a module that is skipped.
type Skip = fn(&str) -> bool;

/// The index and the modules that were handled.
struct Loader {
    skip: Skip,
    index: Index,
    settings: Settings,
    done: BTreeSet<PathBuf>,
    locked: bool,
}

impl Loader {
    fn new(skip: Skip) -> Result<Self> {
        let settings = Settings::of_system();
        let index = Index::of_running_kernel()?.configured(&settings);
        Ok(Self { skip, index, settings, done: BTreeSet::new(), locked: load::is_locked() })
    }

    /// Loads modules for these devices.
    fn load_all(&mut self, devices: &[Device]) {
        for device in devices {
            if let Found::Load(files) = self.index.find(&device.modalias) {
                self.load_files(&files);
            }
        }
    }

    /// Loads the image's own list, and then the node's. An unknown name is a mistake.
    fn load_list(&mut self) {
        let list = self.index.folder().join(MODULE_LIST);
        let list = fs::read_to_string(list).unwrap_or_default();
        for name in list.lines().map(str::trim).filter(|name| !name.is_empty()) {
            self.load_named(name);
        }
        self.load_own();
    }

    /// Loads the modules that the settings of the node name.
    fn load_own(&mut self) {
        for name in node_settings().modules {
            self.load_named(&name);
        }
    }

    fn load_named(&mut self, name: &str) {
        match self.index.find(name) {
            Found::Load(files) => self.load_files(&files),
            Found::Unknown => kmsg::warn(format_args!("module {name} is not in the image")),
            Found::Builtin => {}
        }
    }

    fn load_files(&mut self, files: &[ModuleFile]) {
        for module in files {
            self.load_once(module);
        }
    }

    fn load_once(&mut self, module: &ModuleFile) {
        if !self.done.insert(module.file.clone())
            || self.settings.forbids(&module.name)
            || (self.skip)(&module.name)
        {
            return;
        }
        if self.locked {
            return once::say(&load::locked_message(&module.name));
        }
        let options = self.settings.options(&module.name);
        let _ = kmsg::warn_on_error(load::load_file(&module.file, &options));
    }

    /// Reports the devices that no driver in this image supports, once each.
    fn report_all(&self, devices: &[Device]) {
        for device in devices.iter().filter(|device| unknown::counts(&device.modalias)) {
            if self.index.find(&device.modalias) == Found::Unknown {
                unknown::report(device);
            }
        }
    }
}

/// Returns all devices with a modalias, one of each kind, network cards first.
///
/// It does not walk over `/sys/devices`, which has ten times as many folders and takes ten times as
/// long.
fn devices(sysfs: &Path) -> Vec<Device> {
    let children = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
    let buses = children(sysfs.join("bus")).map(|bus| bus.path().join("devices"));
    let classes = CLASSES.map(|class| sysfs.join("class").join(class));
    let mut found = BTreeMap::new();
    for entry in buses.chain(classes).flat_map(children) {
        let Ok(modalias) = fs::read_to_string(entry.path().join("modalias")) else { continue };
        let modalias = modalias.trim();
        if !modalias.is_empty() {
            found.entry(modalias.to_owned()).or_insert_with(|| entry.path());
        }
    }
    let below = |at: &Path| format!("/{}", at.strip_prefix(sysfs).unwrap_or(at).display());
    let mut devices: Vec<Device> =
        found.into_iter().map(|(modalias, at)| Device { modalias, path: below(&at) }).collect();
    devices.sort_by_key(|device| !device.modalias.starts_with(NETWORK));
    devices
}

#[cfg(test)]
mod tests {
    use crate::devices::device::Device;

    use super::{devices, pairs};

    #[test]
    fn every_kind_of_device_is_found_once_and_the_network_first() {
        let sysfs = tempfile::tempdir().unwrap();
        for (device, alias) in [
            ("bus/pci/devices/1", "virtio:d00000001v00001AF4\n"),
            ("bus/pci/devices/2", "a:2\n"),
            ("bus/usb/devices/1", "a:2\n"),
            ("bus/usb/devices/2", "\n"),
            ("class/input/input1", "input:1\n"),
        ] {
            let folder = sysfs.path().join(device);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("modalias"), alias).unwrap();
        }
        let found = devices(sysfs.path());
        let aliases: Vec<&str> = found.iter().map(|device| device.modalias.as_str()).collect();
        assert_eq!(aliases, ["virtio:d00000001v00001AF4", "a:2", "input:1"]);
        assert_eq!(found[0].path, "/bus/pci/devices/1");
    }

    #[test]
    fn the_arguments_of_a_helper_are_pairs() {
        let args = ["a", "/1", "b", "/2", "c"].map(str::to_owned);
        let device =
            |modalias: &str, path: &str| Device { modalias: modalias.into(), path: path.into() };
        assert_eq!(pairs(&args), [device("a", "/1"), device("b", "/2")]);
    }
}
