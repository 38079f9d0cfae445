//! Paths in the running system, as the host's processes see them.

/// PID 1's binary under its own name. The applets are links to it.
pub const INIT: &str = "/usr/lib/kiln/init";

/// The applets: links in [`BIN`] to [`INIT`].
pub const APPLETS: [&str; 7] =
    ["journalctl", "losetup", "modprobe", "mount", "poweroff", "reboot", "umount"];

/// The host's programs. `/bin`, `/sbin` and `/usr/sbin` are links to this folder.
pub const BIN: &str = "/usr/bin";

/// containerd, built from Go modules, with Kiln's image plugin.
pub const CONTAINERD: &str = "/usr/bin/containerd";

/// kubelet, unpatched.
pub const KUBELET: &str = "/usr/bin/kubelet";

/// containerd's shim, one for each pod.
pub const SHIM: &str = "/usr/bin/containerd-shim-runc-v2";

/// The program that starts containers.
pub const RUNC: &str = "/usr/bin/runc";

/// The program that mends a damaged data partition.
pub const E2FSCK: &str = "/usr/bin/e2fsck";

/// containerd's configuration, part of the read-only root.
pub const CONTAINERD_CONFIG: &str = "/usr/share/kiln/containerd.toml";

/// containerd's socket.
pub const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";

/// kubelet's base configuration, which kubelet reads here: a copy on `/var` could be old, missing or a
/// stranger's.
pub const KUBELET_BASE_CONFIG: &str = "/usr/share/kiln/kubelet.yaml";

/// A copy of [`KUBELET_BASE_CONFIG`] at the path that kubeadm uses, for people and tools. PID 1 writes
/// it at each boot.
pub const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";

/// The files that PID 1 copies into the writable `/etc` at boot.
pub const ETC_SOURCE: &str = "/usr/share/kiln/etc";

/// The mount point of the pods' erofs ([`crate::archive::PODS`]).
pub const PODS: &str = "/usr/share/kiln/pods";

/// An OCI image layout (`oci-layout`, `index.json`, `blobs/sha256/…`) with every baked image.
///
/// A manifest descriptor in `index.json` has the image's name in the annotation
/// `io.containerd.image.name`, for example `kiln.local/dhcp:0.1.0`.
pub const IMAGES: &str = "/usr/share/kiln/pods/images";

/// The static pods baked into the image. PID 1 copies them to [`MANIFESTS`].
pub const BAKED_MANIFESTS: &str = "/usr/share/kiln/pods/manifests";

/// The baked static pods that wait for the network ([`crate::pod::AFTER`]).
pub const LATE_MANIFESTS: &str = "/usr/share/kiln/pods/manifests-after-network";

/// The seccomp profiles that baked pods name, in the format of the OCI runtime specification.
pub const SECCOMP: &str = "/usr/share/kiln/seccomp";

/// A link to [`SECCOMP`] in the folder that kubelet searches: `localhostProfile: kiln/NAME.json`.
pub const KUBELET_SECCOMP: &str = "/var/lib/kubelet/seccomp/kiln";

/// kubelet's `staticPodPath`, at the path that kubeadm uses.
pub const MANIFESTS: &str = "/etc/kubernetes/manifests";

/// The built-in CNI plugins (`bridge`, `host-local`).
pub const CNI_BIN: &str = "/usr/libexec/cni";

/// The CNI plugins that pods install. The folder is writable.
pub const CNI_BIN_WRITABLE: &str = "/opt/cni/bin";

/// The volume plugins that pods install; kubelet's default folder for them is below. The folder is
/// writable.
pub const VOLUME_PLUGINS: &str = "/usr/libexec/kubernetes/kubelet-plugins";

/// The authorities that the image trusts, in PEM: Debian's package `ca-certificates`.
pub const AUTHORITIES: &str = "/usr/share/ca-certificates/ca-certificates.crt";

/// The authorities that the node trusts: those of the image and the owner's own.
pub const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The owner's own authorities, `NAME.crt` for each credential `kiln.ca.NAME`.
pub const OWN_AUTHORITIES: &str = "/etc/ssl/kiln";

/// containerd's folder with a folder for each registry.
pub const REGISTRIES: &str = "/etc/containerd/certs.d";

/// The kernel modules, in a folder named after the kernel's release, with depmod's indexes.
pub const MODULES: &str = "/usr/lib/modules";

/// The file next to depmod's indexes that lists the modules which the image always loads, one name
/// per line.
pub const MODULE_LIST: &str = "kiln.load";

/// The file next to depmod's indexes with the aliases of built-in modules, in the format of
/// `modules.alias`.
///
/// depmod writes these in binary form only.
pub const BUILTIN_ALIASES: &str = "kiln.builtin-alias";

/// The credentials of this boot. Only root can read them.
pub const CREDENTIALS: &str = "/run/kiln/credentials";

/// The folder in which a privileged pod writes credentials while the node runs, as files `NAME`.
/// Only root can enter it.
pub const LATE_CREDENTIALS: &str = "/run/kiln/credentials.late";

/// The credentials that are part of the image, as files `NAME`.
pub const BAKED_CREDENTIALS: &str = "/usr/share/kiln/credentials";

/// The kubeconfig with which kubelet asks for its first certificate, at the path that kubeadm uses.
pub const BOOTSTRAP_KUBECONFIG: &str = "/etc/kubernetes/bootstrap-kubelet.conf";

/// kubelet's kubeconfig. It is on `/var`, so that a node with a data partition keeps its identity.
pub const KUBECONFIG: &str = "/var/lib/kubelet/kubeconfig";

/// A link to [`KUBECONFIG`] at the path that kubeadm uses.
pub const KUBECONFIG_LINK: &str = "/etc/kubernetes/kubelet.conf";

/// The cluster's certificate authority, at the path that kubeadm uses.
pub const CLUSTER_CA: &str = "/etc/kubernetes/pki/ca.crt";

/// kubelet's `--config-dir`: files `NN-NAME.conf` that it merges over [`KUBELET_CONFIG`] in the
/// order of their names.
pub const KUBELET_DROP_INS: &str = "/etc/kubernetes/kubelet.conf.d";

/// kubelet's certificates and keys.
pub const KUBELET_PKI: &str = "/var/lib/kubelet/pki";

/// The CNI configuration of a node that has not joined a cluster.
pub const STANDALONE_CNI: &str = "/etc/cni/net.d/99-kiln.conflist";

/// The configuration of image credential providers, if a package brings it.
pub const CREDENTIAL_PROVIDERS: &str = "/usr/share/kiln/credential-provider.yaml";

/// The programs of image credential providers.
pub const CREDENTIAL_PROVIDER_BIN: &str = "/usr/libexec/kubernetes/credential-provider";

/// The folder that the dhcp pod writes `resolv.conf` into. `/etc/resolv.conf` is a link to it.
///
/// This is a folder, because a pod cannot replace a single mounted file atomically.
pub const RESOLVER: &str = "/run/kiln/resolver";

/// PID 1's notify socket, for `READY=1` (`sd_notify(3)`).
pub const NOTIFY_SOCKET: &str = "/run/kiln/notify";

/// The part of logind that kubelet needs for a graceful shutdown, as a D-Bus of its own.
pub const LOGIN1_SOCKET: &str = "/run/kiln/login1";

/// The record of how the last boot ended: lines `END=`, `POWER=`, `TEXT=`. Empty if there is no
/// record.
pub const LAST_BOOT: &str = "/run/kiln/last-boot";

/// A FIFO. A privileged pod writes `poweroff`, `reboot` or `halt` and a newline to request it.
pub const POWER_REQUEST: &str = "/run/kiln/power";

/// The times of boot and shutdown, as JSON.
pub const TIMELINE: &str = "/run/kiln/timeline.json";

/// The messages that PID 1 and its helpers print once per boot: unknown devices, requests for
/// locked modules.
pub const REPORTED: &str = "/run/kiln/reported";

/// The lock of the process that loads modules for devices.
pub const DEVICES_LOCK: &str = "/run/kiln/devices.lock";

/// The links below `/dev/disk` that PID 1's helper made: a file for each device.
pub const DISK_LINKS: &str = "/run/kiln/disk-links";

/// The lock of the helper that changes links below `/dev/disk`.
pub const DISK_LINKS_LOCK: &str = "/run/kiln/disk-links.lock";

/// The registry in the names of images that exist only in the image file.
pub const IMAGE_REGISTRY: &str = "kiln.local";

/// The name of the pause image that containerd uses for every sandbox.
pub const PAUSE_IMAGE: &str = "kiln.local/pause:latest";
