//! The meaning of a request's fields for a representation (RFC 9110), as pure functions.
//!
//! | module | content |
//! | --- | --- |
//! | [`coding`] | `Accept-Encoding`: the variant to send |
//! | [`condition`] | `If-Match` and related fields: whether to send it |
//! | [`range`] | `Range` and `If-Range`: the part to send |

pub mod coding;
pub mod condition;
pub mod range;
