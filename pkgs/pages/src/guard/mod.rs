//! The git servers that may be contacted.
//!
//! A tenant chooses the URL of a repository, so without rules the syncer would connect to any address
//! that its network reaches: the API server, a cloud's metadata service, another tenant's pod.
//! An administrator therefore lists the hosts, and every address is checked after the lookup of the
//! name. The connection uses the checked address, so a second answer of the name server changes
//! nothing (DNS rebinding). A redirect is a new URL and is checked in the same way.
//!
//! | module | content | touches |
//! | --- | --- | --- |
//! | [`url`] | text → [`url::GitUrl`], and the comparison of URLs | nothing |
//! | [`address`] | addresses of the public internet | nothing |
//! | [`policy`] | hosts, schemes and networks that are allowed | nothing |
//! | [`lookup`] | name → checked addresses | the name server |

pub mod address;
pub mod lookup;
pub mod policy;
pub mod url;
