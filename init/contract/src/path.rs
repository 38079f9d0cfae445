//! Paths in the running system, as host processes see them.

/// PID 1's binary under its own name, and the programs it stands in for (links to it in [`BIN`]).
pub const INIT: &str = "/usr/lib/kiln/init";

/// The applets: links in [`BIN`] to [`INIT`].
pub const APPLETS: [&str; 6] = ["journalctl", "modprobe", "mount", "poweroff", "reboot", "umount"];

/// Host programs. `/bin`, `/sbin` and `/usr/sbin` are links to it.
pub const BIN: &str = "/usr/bin";

/// containerd, from Go modules, with Kiln's image plugin.
pub const CONTAINERD: &str = "/usr/bin/containerd";

/// kubelet, unpatched.
pub const KUBELET: &str = "/usr/bin/kubelet";

/// containerd's shim, one for each pod.
pub const SHIM: &str = "/usr/bin/containerd-shim-runc-v2";

/// Starts containers.
pub const RUNC: &str = "/usr/bin/runc";

/// containerd's configuration, part of the read-only root.
pub const CONTAINERD_CONFIG: &str = "/usr/share/kiln/containerd.toml";

/// containerd's socket.
pub const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";

/// kubelet's base configuration; PID 1 copies it to [`KUBELET_CONFIG`] at each boot.
///
/// At each boot, since `/var` may be older than the image: a copy of the previous image's must not win.
pub const KUBELET_BASE_CONFIG: &str = "/usr/share/kiln/kubelet.yaml";

/// kubelet's configuration, where kubeadm has it too.
pub const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";

/// Files that PID 1 copies into the writable `/etc` at boot.
pub const ETC_SOURCE: &str = "/usr/share/kiln/etc";

/// Mount point of the pods' erofs ([`crate::archive::PODS`]).
pub const PODS: &str = "/usr/share/kiln/pods";

/// An OCI image layout (`oci-layout`, `index.json`, `blobs/sha256/…`) that holds every baked image.
///
/// A manifest descriptor in `index.json` carries the image's name in the annotation
/// `io.containerd.image.name`, for example `kiln.local/dhcp:0.1.0`.
pub const IMAGES: &str = "/usr/share/kiln/pods/images";

/// Static pods baked into the image; PID 1 copies them to [`MANIFESTS`].
pub const BAKED_MANIFESTS: &str = "/usr/share/kiln/pods/manifests";

/// Baked static pods that wait for the network ([`crate::pod::AFTER`]).
pub const LATE_MANIFESTS: &str = "/usr/share/kiln/pods/manifests-after-network";

/// Seccomp profiles that baked pods name, in the OCI runtime specification's form.
pub const SECCOMP: &str = "/usr/share/kiln/seccomp";

/// Link to [`SECCOMP`] where kubelet looks: `localhostProfile: kiln/NAME.json`.
pub const KUBELET_SECCOMP: &str = "/var/lib/kubelet/seccomp/kiln";

/// kubelet's `staticPodPath`, where kubeadm has it too.
pub const MANIFESTS: &str = "/etc/kubernetes/manifests";

/// Built-in CNI plugins (`bridge`, `host-local`).
pub const CNI_BIN: &str = "/usr/libexec/cni";

/// CNI plugins that pods install; writable.
pub const CNI_BIN_WRITABLE: &str = "/opt/cni/bin";

/// Kernel modules, below a folder named by the kernel's release, with depmod's indexes.
pub const MODULES: &str = "/usr/lib/modules";

/// File beside depmod's indexes with the modules that the image always loads, one name per line.
pub const MODULE_LIST: &str = "kiln.load";

/// File beside depmod's indexes with the aliases of what is part of the kernel, as `modules.alias` has them.
///
/// depmod writes these in a binary form only.
pub const BUILTIN_ALIASES: &str = "kiln.builtin-alias";

/// Credentials that came with the boot, root only.
pub const CREDENTIALS: &str = "/run/kiln/credentials";

/// Folder that the dhcp pod writes `resolv.conf` into; `/etc/resolv.conf` is a link to it.
///
/// A folder and not a file, because a pod cannot replace a single mounted file atomically.
pub const RESOLVER: &str = "/run/kiln/resolver";

/// PID 1's notify socket, for `READY=1` (`sd_notify(3)`).
pub const NOTIFY_SOCKET: &str = "/run/kiln/notify";

/// The part of logind that kubelet needs for a graceful shutdown, as a D-Bus of its own.
pub const LOGIN1_SOCKET: &str = "/run/kiln/login1";

/// How the last boot ended: lines `END=`, `POWER=`, `TEXT=`; empty when nothing was kept.
pub const LAST_BOOT: &str = "/run/kiln/last-boot";

/// A FIFO: a privileged pod writes `poweroff`, `reboot` or `halt` here, with a newline, to ask for it.
pub const POWER_REQUEST: &str = "/run/kiln/power";

/// The times of boot and shutdown, as JSON.
pub const TIMELINE: &str = "/run/kiln/timeline.json";

/// What PID 1 and its helpers report once per boot: unknown devices, requests for locked modules.
pub const REPORTED: &str = "/run/kiln/reported";

/// Held by the one process that loads modules for devices.
pub const DEVICES_LOCK: &str = "/run/kiln/devices.lock";

/// Registry part of the names of images that exist in the image file only.
pub const IMAGE_REGISTRY: &str = "kiln.local";

/// Name of the pause image that containerd uses for every sandbox.
pub const PAUSE_IMAGE: &str = "kiln.local/pause:latest";
