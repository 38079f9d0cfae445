//! The boot, from the first instruction to the poll loop, on one screen.
//!
//! Each stage takes what those that it needs have made, so none can run too early. `?` is fatal:
//! the chain of causes goes to the console, and the machine reboots after ten seconds. What may
//! fail without harm is a warning in the stage's own code.

pub mod config;
pub mod late_pods;
pub mod mounts;
pub mod root;

use std::convert::Infallible;
use std::ffi::CStr;

use anyhow::Result;
use kiln_contract::path;

use crate::console::kmsg;
use crate::devices::Devices;
use crate::kernel::{cgroup, evdev};
use crate::machine::parameters;
use crate::process::spawn;
use crate::shutdown::{power, reason, signals};
use crate::storage::data;
use crate::supervise::host::Host;
use crate::supervise::runtime::Runtime;
use crate::timeline::Stages;
use crate::{applet, modules};

/// PID 1's whole life.
pub fn run() -> ! {
    std::panic::set_hook(Box::new(|panic| {
        kmsg::error(format_args!("bug: {panic}"));
        power::after_bug(&panic.to_string())
    }));
    let stages = Stages::begin();
    spawn::shed();
    // Before anything else: what asks for a shutdown from here on waits for the poll loop.
    signals::block();
    match boot(stages) {
        Err(error) => power::fatal(&error),
    }
}

fn boot(mut stages: Stages) -> Result<Infallible> {
    let early = stages.run("mounts", mounts::early)?;
    evdev::remember_presses();
    let beside = stages.run("modules", || modules::load_archive(&early))?;
    let groups = stages.run("cgroups", || cgroup::make_tree(&early))?;
    let (root, first) = stages.run("root", || root::switch(&beside))?;
    let tree = stages.run("tree", || mounts::tree(root))?;
    // Before the first look at the devices, so that none can appear between the two.
    let devices = Devices::listen()?;
    let search = data::search(&tree, &groups, beside)?;
    let parameters = read_parameters();
    let etc = stages.run("etc", || {
        let etc = config::prepare(&tree)?;
        search.wait_for_modules().map(|()| etc)
    })?;
    let var = stages.run("data", || search.attach(&parameters.var_size))?;
    reason::settle(var, parameters.nvram);
    let node = stages.run("config", || config::settle(etc, var, &parameters))?;
    let runtime = stages.run("containerd", || Runtime::start(&Host::of_node(&node), devices))?;
    // Nothing on the way to containerd needs these. What is read ahead would keep its own first page
    // waiting.
    start_helper(applet::READAHEAD, &[path::CONTAINERD, path::SHIM, path::RUNC]);
    // kubelet starts in the loop, so not before this. And network interfaces take over the settings
    // of the moment that they appear at.
    stages.run("pods", || config::prepare_for_kubelet(first))?;
    start_helper(applet::COLDPLUG, &[]);
    start_helper(applet::READAHEAD, &[path::KUBELET]);
    start_helper(applet::CRASH, &[]);
    start_helper(reason::APPLET, &[reason::store()]);
    start_helper(applet::LATE_PODS, &[]);
    runtime.run(stages)
}

fn read_parameters() -> parameters::Parameters {
    let parameters = parameters::of_kernel();
    parameters.warnings.iter().for_each(kmsg::warn);
    parameters
}

/// Nobody waits for it, not even for its `execve`.
fn start_helper(name: &CStr, args: &[&str]) {
    let _ = kmsg::warn_on_error(applet::start(name, args));
}
