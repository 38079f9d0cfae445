//! The order in which sites are fetched. Pure, with time as an argument.
//!
//! Each site is due at a time: at once after a webhook or a change of its specification, after its
//! interval otherwise, and later and later while it fails. A site never runs twice at a time; a
//! request that arrives while it runs makes it due again afterwards, however many requests there are.
//! Among the sites that are due, the namespace with the fewest running fetches comes first, so a
//! namespace with many sites or slow servers delays no other one.
//!
//! | module | content |
//! | --- | --- |
//! | [`plan`] | the queue |
//! | [`namespaces`] | the namespaces, in the order in which they come next |
//! | [`wait`] | intervals, jitter and back-off |
//! | [`saved`] | the part that survives a restart |

pub mod namespaces;
pub mod plan;
pub mod saved;
pub mod wait;
