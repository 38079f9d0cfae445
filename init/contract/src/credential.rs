//! Names of the credentials that PID 1 understands.
//!
//! A credential is a named, small file in one of systemd's forms (`systemd-creds(1)`): a `.cred`
//! file beside the image file, or an SMBIOS type 11 string.

/// The node's name; wins over the kernel parameter of the same name.
pub const HOSTNAME: &str = "kiln.hostname";

/// Prefix of static pods: `kiln.pod.NAME` is the manifest of the pod `NAME`.
pub const POD_PREFIX: &str = "kiln.pod.";

/// Largest value in bytes, as systemd limits a credential (`CREDENTIAL_SIZE_MAX`).
pub const SIZE_MAX: usize = 1024 * 1024;
