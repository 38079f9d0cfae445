//! Kernel modules in the archive, which are needed before the root is mounted: those of the
//! watchdog, of the root's file system, and of containerd.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kiln_contract::archive;

use super::proof::Early;
use crate::console::kmsg;
use crate::machine::watchdog;
use crate::modules::load;

/// The stack size of the thread, enough for a path, a warning and two system calls.
const STACK: usize = 64 * 1024;

/// The time limit for the root's module, which is read from memory.
pub const ROOT_DEADLINE: Duration = Duration::from_secs(30);

/// Modules of the archive that a thread still loads.
#[derive(Debug)]
pub struct Loading {
    thread: JoinHandle<()>,
    /// Receives one message, or is closed if the thread ends without one.
    root: Receiver<()>,
    stand_in: Option<Module>,
}

/// A module of the archive. It is opened at the start, because the archive is emptied later.
#[derive(Debug)]
struct Module {
    name: String,
    file: io::Result<File>,
}

/// Loads the watchdog's modules and arms the watchdog. A thread loads the other modules.
///
/// A module that fails is only a warning: if the root needs it, mounting the root fails.
pub fn load(_: &Early) -> Result<Loading> {
    let order = fs::read_to_string(archive::MODULE_ORDER).unwrap_or_default();
    let Order { first, others, stand_in } = Order::parse(&order);
    let others = others.into_iter().map(Module::open).collect::<Vec<_>>();
    let mut stand_in = stand_in.map(Module::open);
    let (root_can, root) = mpsc::channel::<()>();
    let work = move || {
        for module in others {
            module.load();
            if module.name == archive::ROOT_FILE_SYSTEM {
                let _ = root_can.send(());
            }
        }
    };
    let thread = thread::Builder::new().name("modules".into()).stack_size(STACK).spawn(work);
    let thread = thread.context("cannot start a thread for modules")?;
    for module in first.into_iter().map(Module::open) {
        module.load();
        watchdog::arm();
    }
    arm_stand_in(&mut stand_in);
    Ok(Loading { thread, root, stand_in })
}

impl Loading {
    /// Waits until the root's file system is loaded, or nothing is left to load.
    pub fn wait_for_root(&self) -> Result<()> {
        match self.root.recv_timeout(ROOT_DEADLINE) {
            Err(RecvTimeoutError::Timeout) => bail!("{} does not load", archive::ROOT_FILE_SYSTEM),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Ok(()),
        }
    }

    /// Waits for all modules. After that it is known if the machine has a hardware watchdog.
    pub fn join(mut self) {
        let _ = self.thread.join();
        watchdog::arm();
        arm_stand_in(&mut self.stand_in);
        watchdog::report_missing();
    }
}

/// Loads and arms the software watchdog if no other watchdog is armed.
fn arm_stand_in(stand_in: &mut Option<Module>) {
    // If loading fails now, the module may need one that the thread still loads.
    if stand_in.take_if(|module| !watchdog::is_armed() && module.load()).is_some() {
        watchdog::arm();
    }
}

impl Module {
    fn open(name: &str) -> Self {
        let file = File::open(Path::new(archive::MODULES).join(name));
        Self { name: name.into(), file }
    }

    /// Loads the module and returns true on success.
    fn load(&self) -> bool {
        let options = watchdog::module_options(&self.name);
        let loaded = match &self.file {
            Ok(file) => load::insert_open(file, options).map_err(io::Error::from),
            Err(error) => Err(io::Error::from(error.kind())),
        };
        let loaded = loaded.with_context(|| format!("cannot load module {}", self.name));
        kmsg::warn_on_error(loaded).is_some()
    }
}

/// The division of the modules between the threads, from [`archive::MODULE_ORDER`].
#[derive(Debug, PartialEq, Eq)]
struct Order<'a> {
    /// The first group, with the watchdog, for the main thread.
    first: Vec<&'a str>,
    /// All other groups in their order: the root's before those of containerd.
    others: Vec<&'a str>,
    stand_in: Option<&'a str>,
}

impl<'a> Order<'a> {
    fn parse(order: &'a str) -> Self {
        let lines: Vec<&str> = order.lines().map(str::trim).collect();
        let mut groups: Vec<Vec<&str>> = lines
            .split(|name| name.is_empty())
            .map(|group| group.iter().copied().filter(|&name| !is_stand_in(name)).collect())
            .filter(|group: &Vec<_>| !group.is_empty())
            .collect();
        let others = groups.split_off(groups.len().min(1));
        Self {
            first: groups.concat(),
            others: others.concat(),
            stand_in: lines.iter().copied().find(|&name| is_stand_in(name)),
        }
    }
}

fn is_stand_in(name: &str) -> bool {
    name == archive::SOFT_WATCHDOG
}

#[cfg(test)]
mod tests {
    use super::Order;

    #[test]
    fn the_first_group_is_for_the_main_thread_and_the_others_keep_their_order() {
        let check = |text: &str, first: &[&str], others: &[&str], stand_in: Option<&str>| {
            let expected = Order { first: first.into(), others: others.into(), stand_in };
            assert_eq!(Order::parse(text), expected);
        };
        check(
            "watchdog.ko\ni6300esb.ko\nsoftdog.ko\n\nlibcrc32c.ko\nerofs.ko\n\noverlay.ko\n",
            &["watchdog.ko", "i6300esb.ko"],
            &["libcrc32c.ko", "erofs.ko", "overlay.ko"],
            Some("softdog.ko"),
        );
        check("a.ko\nb.ko\n", &["a.ko", "b.ko"], &[], None);
        check("\n\nsoftdog.ko\n", &[], &[], Some("softdog.ko"));
        check("softdog.ko\n\nerofs.ko\n", &["erofs.ko"], &[], Some("softdog.ko"));
        check("", &[], &[], None);
    }
}
