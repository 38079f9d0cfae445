//! Previews of a site: which references have one, for how long, and under which label. Pure, with time
//! as an argument.
//!
//! | module | content |
//! | --- | --- |
//! | [`reference`] | the references of git that can have a preview |
//! | [`label`] | reference → label and host |
//! | [`pattern`] | patterns of branches |
//! | [`wish`] | the part of a site's specification |
//! | [`state`] | the references that are known, and the previews that are alive |
//! | [`share`] | the share of a namespace |

pub mod label;
pub mod pattern;
pub mod reference;
pub mod share;
pub mod state;
pub mod wish;
