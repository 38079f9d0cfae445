//! Paths in the initramfs archive (`.initrd` of the UKI).
//!
//! PID 1 sees them at boot, before it mounts the root.

/// PID 1. The kernel executes it (`rdinit=/init` is the default).
pub const INIT: &str = "/init";

/// The host's root: a compressed erofs, mounted from the file in ramfs.
pub const ROOT: &str = "/root.erofs";

/// The pods' images and manifests: a second erofs, so that a changed pod does not recompress the
/// root.
pub const PODS: &str = "/pods.erofs";

/// The folder of the modules that are needed before the root is mounted, uncompressed.
pub const MODULES: &str = "/modules";

/// One file name in [`MODULES`] per line, in load order.
///
/// An empty line ends a group. No module needs a module of another group, so groups can be loaded
/// in parallel. The hardware watchdog's group is the first: PID 1 loads it while a thread loads the
/// others.
pub const MODULE_ORDER: &str = "/modules/order";

/// The module in [`MODULES`] that the root needs. Only containerd needs the others.
pub const ROOT_FILE_SYSTEM: &str = "erofs.ko";

/// The module in [`MODULES`] that is loaded only if there is no other watchdog.
pub const SOFT_WATCHDOG: &str = "softdog.ko";

/// The folder in which systemd's EFI stub puts credentials and other files found next to the UKI.
pub const STUB_FILES: &str = "/.extra";
