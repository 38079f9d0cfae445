//! What a request's fields mean for a representation (RFC 9110), as pure functions.
//!
//! | module | what |
//! | --- | --- |
//! | [`coding`] | `Accept-Encoding`: which variant |
//! | [`condition`] | `If-Match` and its kin: whether to send it |
//! | [`range`] | `Range` and `If-Range`: which part of it |

pub mod coding;
pub mod condition;
pub mod range;
