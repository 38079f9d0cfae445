//! The machine and its firmware: identity, credentials, kernel parameters, clock, watchdog.

pub mod credential;
pub mod efivar;
pub mod identity;
pub mod parameters;
pub mod rtc;
pub mod smbios;
pub mod watchdog;
