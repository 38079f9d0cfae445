//! The boot, from the first instruction to the poll loop, on one screen.
//!
//! Each stage takes the value that the one before it made, so none can run too early. `?` is fatal:
//! the chain of causes goes to the console, and the machine reboots after ten seconds. What may
//! fail without harm is a warning in the stage's own code.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use kiln_contract::{cgroup as groups, path};

use crate::kmsg::stage;
use crate::spawn::{self, Program};
use crate::supervise::runtime::Runtime;
use crate::{
    applet, cgroup, config, credential, data, kmsg, modules, mounts, parameters, power, root,
};

/// PID 1's whole life.
pub fn run() -> ! {
    std::panic::set_hook(Box::new(|panic| {
        kmsg::error(format_args!("bug: {panic}"));
        power::after_bug()
    }));
    match boot() {
        Err(error) => power::fatal(&error),
    }
}

fn boot() -> Result<Infallible> {
    let early = stage("mounts", mounts::early)?;
    let loaded = stage("modules", || modules::load_archive(early))?;
    let root = stage("root", || root::switch(loaded))?;
    let tree = stage("tree", || mounts::tree(root))?;
    stage("cgroups", cgroup::make_tree)?;
    start_helper(applet::COLDPLUG, &[])?;
    let parameters = read_parameters();
    let var = stage("data", || data::attach(tree, &parameters.var_size))?;
    let node = stage("config", || {
        credential::store_smbios();
        config::settle(var, &parameters)
    })?;
    let runtime = stage("containerd", || Runtime::start(&node))?;
    start_helper(applet::READAHEAD, &[path::KUBELET])?;
    runtime.run()
}

fn read_parameters() -> parameters::Parameters {
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let parameters = parameters::parse(&line);
    parameters.warnings.iter().for_each(kmsg::warn);
    parameters
}

/// Starts this binary under another name beside the boot. Nobody waits for it, not even for its
/// `execve`: that takes as long as a whole stage under emulation.
fn start_helper(name: &CStr, args: &[&str]) -> Result<()> {
    let args = args.iter().map(|arg| CString::new(*arg));
    let program = Program {
        path: spawn::SELF.into(),
        args: std::iter::once(Ok(name.into())).chain(args).collect::<Result<_, _>>()?,
        env: Vec::new(),
        oom_score: c"0",
    };
    let group = cgroup::open(groups::INIT)?;
    let null = std::fs::File::options().write(true).open("/dev/null").context("open /dev/null")?;
    let started = spawn::begin(&program, group.as_fd(), null.as_fd());
    let _ = kmsg::warn_on_error(started);
    Ok(())
}
