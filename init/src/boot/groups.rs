//! Makes the tree of control groups (Documentation/admin-guide/cgroup-v2.rst).
//!
//! A group with controllers for its children must not hold processes, so PID 1 leaves the root
//! group before it starts anything. kubelet makes `/kubepods` itself.

use std::fs;

use anyhow::{Context, Result};
use kiln_contract::cgroup::{CONTAINERD, HOST, INIT, KUBELET};

use super::proof::{Early, Groups};
use crate::console::kmsg;
use crate::kernel::cgroup::{path, write};

/// Memory that the kernel never reclaims from containerd and kubelet, in bytes.
///
/// It is about the resident memory of both on a small node, shims included and pods excluded.
const HOST_MEMORY_MIN: &str = "134217728";

/// Makes the tree, moves PID 1 into its group, and enables all controllers.
pub fn make_tree(_: &Early) -> Result<Groups> {
    for group in [INIT, HOST] {
        fs::create_dir(path(group)).with_context(|| format!("cannot make group {group}"))?;
    }
    write(INIT, "cgroup.procs", "1")?;
    enable_controllers("")?;
    enable_controllers(HOST)?;
    for group in [CONTAINERD, KUBELET] {
        fs::create_dir(path(group)).with_context(|| format!("cannot make group {group}"))?;
    }
    // memory_recursiveprot passes the protection on to both services.
    let _ = kmsg::warn_on_error(write(HOST, "memory.min", HOST_MEMORY_MIN));
    Ok(Groups(()))
}

/// Enables controllers together, or one by one if that fails because a controller is in use
/// elsewhere: the kernel enables all of a list or none.
fn enable_controllers(group: &str) -> Result<()> {
    let offered = fs::read_to_string(path(group).join("cgroup.controllers"))
        .with_context(|| format!("cannot read the controllers of {group:?}"))?;
    let all = enabling(&offered);
    if write(group, "cgroup.subtree_control", &all).is_ok() {
        return Ok(());
    }
    for controller in all.split(' ') {
        let _ = kmsg::warn_on_error(write(group, "cgroup.subtree_control", controller));
    }
    Ok(())
}

fn enabling(offered: &str) -> String {
    let words: Vec<String> =
        offered.split_ascii_whitespace().map(|name| format!("+{name}")).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::enabling;

    #[test]
    fn every_offered_controller_is_enabled() {
        assert_eq!(enabling("cpuset cpu io\n"), "+cpuset +cpu +io");
    }
}
