//! Applies the kernel settings of [`kiln_contract::sysctl`].
//!
//! They are applied before kubelet starts, because with `protectKernelDefaults` it refuses to run
//! with other values. Settings that exist only after a module is loaded are applied by
//! `kiln-coldplug`.

use std::fs;
use std::path::Path;

use kiln_contract::sysctl::TABLE;
pub use kiln_contract::sysctl::When;

use crate::console::kmsg;

/// Makes a kernel panic reboot the machine. This comes first, because otherwise the death of PID 1
/// would halt the machine forever.
pub fn set_panic_delay() {
    let _ = fs::write("/proc/sys/kernel/panic", "10");
}

/// The kernel's switch for short RCU grace periods (Documentation/ABI,
/// `/sys/kernel/rcu_expedited`).
const RCU_EXPEDITED: &str = "/sys/kernel/rcu_expedited";

/// Makes RCU grace periods short during the boot, at the cost of more interrupts.
///
/// Mounts, control groups, modules and network namespaces wait for many of them in sequence.
pub fn hurry_rcu() {
    let _ = fs::write(RCU_EXPEDITED, "1");
}

/// Undoes [`hurry_rcu`], so that interrupts do not slow down running pods.
pub fn calm_rcu() {
    let _ = fs::write(RCU_EXPEDITED, "0");
}

/// Applies all settings of one kind. A missing file is a warning for [`When::Boot`] and ignored for
/// [`When::Offered`].
pub fn apply(when: When) {
    for (name, value, _) in TABLE.iter().filter(|line| line.2 == when) {
        let file = Path::new("/proc/sys").join(name);
        if when == When::Offered && !file.exists() {
            continue;
        }
        // The newline makes a write of the empty value too.
        if let Err(error) = fs::write(&file, format!("{value}\n")) {
            kmsg::warn(format_args!("cannot set sysctl {name} to {value:?}: {error}"));
        }
    }
}
