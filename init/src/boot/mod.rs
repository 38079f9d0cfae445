//! The boot, from the first instruction to the poll loop, on one screen.
//!
//! A stage takes the results of the stages that it needs, so it cannot run too early. `?` is fatal:
//! the chain of causes goes to the console, and the machine reboots after ten seconds. A failure
//! that the boot survives is a warning in the stage's own code.

pub mod archive;
mod credentials;
pub mod etc;
pub mod fill;
mod groups;
pub mod late_pods;
mod mounts;
pub mod node;
pub mod partition;
pub mod proof;
mod root;
pub mod var;

use std::convert::Infallible;

use anyhow::Result;
use kiln_contract::path;
use kiln_contract::setting::{NVRAM, VAR_SIZE};

use crate::console::kmsg;
use crate::devices::hotplug::Devices;
use crate::kernel::evdev;
use crate::machine::parameters;
use crate::process::helper::Helper;
use crate::process::spawn;
use crate::shutdown::{end, reason, signals};
use crate::supervise::host::Host;
use crate::supervise::runtime::Runtime;
use crate::timeline::Stages;

/// Boots the node and supervises it until the machine goes down.
pub fn run() -> ! {
    std::panic::set_hook(Box::new(|panic| {
        kmsg::error(format_args!("bug: {panic}"));
        end::after_bug(&panic.to_string())
    }));
    let stages = Stages::begin();
    spawn::shed();
    // First of all: a shutdown that is requested from now on waits for the poll loop.
    signals::block();
    match boot(stages) {
        Err(error) => end::fatal(&error),
    }
}

fn boot(mut stages: Stages) -> Result<Infallible> {
    let early = stages.run("mounts", mounts::early)?;
    evdev::remember_presses();
    let modules = stages.run("modules", || archive::load(&early))?;
    let groups = stages.run("cgroups", || groups::make_tree(&early))?;
    let (root, first, next_to_uki) = stages.run("root", || root::switch(&modules))?;
    let tree = stages.run("tree", || mounts::tree(root))?;
    // Listening starts before the first scan of the devices, so that no device is missed.
    let devices = Devices::listen()?;
    let search = var::search(&tree, &groups, modules, next_to_uki)?;
    let parameters = read_parameters();
    let etc = stages.run("etc", || {
        let etc = etc::prepare(&tree)?;
        search.wait_for_modules().map(|()| etc)
    })?;
    let (var, gathered) = stages.run("data", || search.attach(parameters.text(&VAR_SIZE)))?;
    let node = stages.run("config", || node::settle(etc, var, parameters, gathered))?;
    reason::settle(node.var, !node.parameters.is(&NVRAM, "off"));
    let host = Host::of_node(node);
    let runtime = stages.run("containerd", || Runtime::start(&host, devices))?;
    // containerd does not need what follows. Reading files ahead starts after containerd, because
    // it would delay the reading of containerd itself.
    start_helper(Helper::ReadAhead, &[path::CONTAINERD, path::SHIM, path::RUNC]);
    // kubelet is started by the loop, after this stage. Network interfaces copy the settings
    // that are in force when they appear.
    stages.run("pods", || etc::prepare_for_kubelet(first, &host.kubelet))?;
    start_helper(Helper::Coldplug, &[]);
    start_helper(Helper::ReadAhead, &[path::KUBELET]);
    start_helper(Helper::Crash, &[]);
    start_helper(Helper::LastBoot, &[reason::store()]);
    start_helper(Helper::LatePods, &[]);
    runtime.run(stages)
}

fn read_parameters() -> parameters::Parameters {
    let parameters = parameters::of_kernel();
    parameters.warnings.iter().for_each(kmsg::warn);
    parameters
}

/// Starts a helper without waiting for it, not even for its `execve`.
fn start_helper(helper: Helper, args: &[&str]) {
    let _ = kmsg::warn_on_error(helper.start(args));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{archive, fill, partition};
    use crate::machine::watchdog::{FEED, TIMEOUT};
    use crate::storage::{controllers, drivers};

    #[test]
    fn a_hanging_driver_leaves_time_to_search_for_the_partition() {
        let slowest = drivers::DEADLINE + controllers::READY + controllers::SETTLE;
        assert!(slowest < partition::DEADLINE);
    }

    #[test]
    fn every_stage_of_the_boot_ends_before_the_watchdog_resets_the_machine() {
        let longest = partition::DEADLINE.max(fill::DEADLINE).max(archive::ROOT_DEADLINE);
        assert!(longest + Duration::from_secs(15) < TIMEOUT, "{longest:?}");
        assert!(FEED <= TIMEOUT / 2);
    }
}
