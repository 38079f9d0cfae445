//! The links in `/dev/disk`, by which pods and volume plugins find a disk on any node.
//!
//! Names and links are those of systemd's udev (`rules.d/60-persistent-storage.rules`), because
//! manifests and volume plugins contain them. The helper `kiln-disk-links` makes them: it reads
//! disks, which can hang.

mod facts;
mod helper;
mod links;
mod name;
mod place;
pub mod queue;
mod record;
pub mod vpd;

pub use helper::run;
