//! The operator's part of the previews in a site's status. Pure.

use serde_json::{Value, json};

use crate::api::Preview;
use crate::ownership::preview::Grants;
use crate::table::Address;

/// Returns the address for a browser, with a slash at its end.
#[must_use]
pub fn url(scheme: &str, address: &Address) -> String {
    format!("{scheme}://{}{}/", address.host, address.prefix)
}

/// Returns the previews with the addresses that the operator grants; one that the syncer has removed
/// loses its address.
#[must_use]
pub fn granted(previews: &[Preview], grants: Option<&Grants>, scheme: &str) -> Vec<Preview> {
    let with = |preview: &Preview| {
        let grant = preview.reference.parse().ok().and_then(|reference| grants?.get(&reference));
        let address = grant.and_then(|grant| grant.as_ref().ok()).cloned();
        Preview {
            url: address.as_ref().map(|address| url(scheme, address)),
            address,
            refused: grant.and_then(|grant| grant.as_ref().err()).cloned(),
            ..preview.clone()
        }
    };
    previews.iter().map(with).collect()
}

/// Returns the operator's fields, for server-side apply; nothing for a preview without a decision, so
/// that it goes with the syncer's fields.
#[must_use]
pub fn fields(previews: &[Preview]) -> Vec<Value> {
    let decided =
        previews.iter().filter(|preview| preview.address.is_some() || preview.refused.is_some());
    let fields = decided.map(|preview| {
        let own = Preview {
            reference: preview.reference.clone(),
            address: preview.address.clone(),
            url: preview.url.clone(),
            refused: preview.refused.clone(),
            ..Preview::default()
        };
        json!(own)
    });
    fields.collect()
}

#[cfg(test)]
mod tests {
    use super::{fields, granted};
    use crate::api::Preview;
    use crate::table::Address;
    use serde_json::json;
    use std::collections::BTreeMap;

    fn preview(reference: &str) -> Preview {
        let commit = Some("abc".to_owned());
        Preview { reference: reference.to_owned(), commit, ..Preview::default() }
    }

    #[test]
    fn only_the_operators_fields_are_applied_and_a_lost_address_is_withdrawn() {
        let host = "a--b.team.pages.test".to_owned();
        let address = Address { host, prefix: String::new() };
        let grants = BTreeMap::from([
            ("refs/heads/a".parse().unwrap(), Ok(address)),
            ("refs/heads/b".parse().unwrap(), Err("taken".to_owned())),
        ]);
        let previews = ["refs/heads/a", "refs/heads/b", "refs/heads/c"].map(preview);
        let with = granted(&previews, Some(&grants), "https");
        assert_eq!(
            json!(fields(&with)),
            json!([
                { "ref": "refs/heads/a", "url": "https://a--b.team.pages.test/",
                  "address": { "host": "a--b.team.pages.test", "prefix": "" } },
                { "ref": "refs/heads/b", "refused": "taken" },
            ])
        );
        assert_eq!(with[0].commit.as_deref(), Some("abc"));
        assert_eq!(granted(&with, None, "https"), previews);
    }
}
