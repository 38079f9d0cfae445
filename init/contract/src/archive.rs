//! What lies in the initramfs archive (`.initrd` of the UKI).
//!
//! Paths are as PID 1 sees them at boot, before the root is mounted.

/// PID 1. The kernel executes it from here (`rdinit=/init` is the default).
pub const INIT: &str = "/init";

/// The host's root: compressed erofs, mounted file-backed from ramfs.
pub const ROOT: &str = "/root.erofs";

/// The pods' images and manifests: a second erofs, so that a changed pod does not recompress the root.
pub const PODS: &str = "/pods.erofs";

/// Folder of the modules that are needed before the root is there, uncompressed.
pub const MODULES: &str = "/modules";

/// One file name in [`MODULES`] per line, in the order in which they must be loaded.
///
/// An empty line ends a group: no module needs one of another group, so groups can be loaded side
/// by side. The hardware watchdog's is the first: PID 1 loads it while a thread loads the others.
pub const MODULE_ORDER: &str = "/modules/order";

/// The module of [`MODULES`] that the root waits for. containerd waits for the others.
pub const ROOT_FILE_SYSTEM: &str = "erofs.ko";

/// The module of [`MODULES`] that is loaded only where no other watchdog came up.
pub const SOFT_WATCHDOG: &str = "softdog.ko";

/// Where systemd's EFI stub puts credentials and other files it found beside the UKI.
pub const STUB_FILES: &str = "/.extra";
