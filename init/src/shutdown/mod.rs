//! Taking the machine down, and recording the reason for the next boot.

pub mod crash;
pub mod end;
pub mod force;
pub mod power;
pub mod reason;
pub mod signals;
pub mod unmount;
