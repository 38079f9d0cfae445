//! The meaning of a request's fields for a representation (RFC 9110), as pure functions.
//!
//! | module | content |
//! | --- | --- |
//! | [`coding`] | `Accept-Encoding`: which variant |
//! | [`condition`] | `If-Match` and its kin: send it or not |
//! | [`range`] | `Range` and `If-Range`: which part of it |

pub mod coding;
pub mod condition;
pub mod range;
