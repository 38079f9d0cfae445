//! Kernel modules: depmod's indexes, the owner's settings, and the calls that load them.

mod aliases;
pub mod index;
pub mod load;
pub mod name;
pub mod pattern;
pub mod settings;
