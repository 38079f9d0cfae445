//! Sets the kernel settings of [`kiln_contract::sysctl`].
//!
//! Set before kubelet starts, because with `protectKernelDefaults` it refuses to run on others.
//! Those that exist only after a module is loaded are set by the second process.

use std::fs;
use std::path::Path;

use kiln_contract::sysctl::TABLE;
pub use kiln_contract::sysctl::When;

use crate::console::kmsg;

/// First of all: without it the death of PID 1 halts the machine for ever instead of rebooting it.
pub fn set_panic_delay() {
    let _ = fs::write("/proc/sys/kernel/panic", "10");
}

/// Switch for short RCU grace periods (Documentation/ABI, `/sys/kernel/rcu_expedited`).
const RCU_EXPEDITED: &str = "/sys/kernel/rcu_expedited";

/// Makes the kernel's grace periods short while the node boots, at the price of interrupts.
///
/// Mounts, control groups, modules and network namespaces wait for many of them one after another.
pub fn hurry_rcu() {
    let _ = fs::write(RCU_EXPEDITED, "1");
}

/// Ends what [`hurry_rcu`] began: running pods must not pay for others' starts.
pub fn calm_rcu() {
    let _ = fs::write(RCU_EXPEDITED, "0");
}

/// Sets all of one kind. A missing file is a warning at boot, and nothing where it is only offered.
pub fn apply(when: When) {
    for (name, value, _) in TABLE.iter().filter(|line| line.2 == when) {
        let file = Path::new("/proc/sys").join(name);
        if when == When::Offered && !file.exists() {
            continue;
        }
        // With a newline, because nothing at all would not be written.
        if let Err(error) = fs::write(&file, format!("{value}\n")) {
            kmsg::warn(format_args!("sysctl {name}={value}: {error}"));
        }
    }
}
