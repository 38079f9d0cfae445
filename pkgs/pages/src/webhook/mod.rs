//! Webhooks of forges: a request → the event that it reports, as pure functions.
//!
//! | module | content |
//! | --- | --- |
//! | [`forge`] | the headers of each forge, and the check of signatures |
//! | [`event`] | body → event with branch and repository URLs |
//! | [`pull`] | the same for pull requests |
//! | [`seen`] | the deliveries that were handled |

pub mod event;
pub mod forge;
pub mod pull;
pub mod seen;
