//! The machine and its firmware: identity, credentials, kernel parameters, clock, watchdog.

pub mod base64;
pub mod credential;
pub mod efivar;
pub mod fw_cfg;
pub mod identity;
pub mod nocloud;
pub mod parameters;
pub mod pem;
pub mod rtc;
pub mod smbios;
pub mod watchdog;
