//! The request for the places of objects, and its answer. Pure.
//!
//! Source: Git LFS API, "Batch" (`docs/api/batch.md` of git-lfs), with the transfer `basic`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::pointer::Pointer;
use crate::digest::Digest;

/// The most objects of a request, as in git-lfs itself.
pub const OBJECTS_MAX: usize = 100;

/// The most header fields of a download.
const FIELDS_MAX: usize = 20;

/// The media type of requests and answers.
pub const MEDIA_TYPE: &str = "application/vnd.git-lfs+json";

/// The place of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// The URL.
    pub url: String,
    /// The header fields of the request, as lines.
    pub fields: Vec<String>,
}

#[derive(Deserialize)]
struct Answer {
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    oid: String,
    #[serde(default)]
    actions: Option<Actions>,
}

#[derive(Deserialize)]
struct Actions {
    #[serde(default)]
    download: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: String,
    #[serde(default)]
    header: Option<BTreeMap<String, String>>,
}

/// Returns the body of a request for these objects.
pub fn request(pointers: &[Pointer]) -> String {
    let object = |pointer: &Pointer| json!({ "oid": pointer.digest.hex(), "size": pointer.bytes });
    json!({
        "operation": "download", "transfers": ["basic"], "hash_algo": "sha256",
        "objects": pointers.iter().map(object).collect::<Vec<_>>(),
    })
    .to_string()
}

/// Reads an answer: the objects that can be downloaded. An object with an error has no place.
pub fn answer(body: &[u8]) -> Result<BTreeMap<Digest, Download>, serde_json::Error> {
    let answer: Answer = serde_json::from_slice(body)?;
    let place = |object: Object| {
        let digest = format!("sha256:{}", object.oid).parse().ok()?;
        let Action { href, header } = object.actions?.download?;
        let is_field = |(name, value): &(String, String)| {
            !name.contains([':', '\r', '\n']) && !value.contains(['\r', '\n'])
        };
        let fields = header.unwrap_or_default().into_iter().filter(is_field).take(FIELDS_MAX);
        let fields = fields.map(|(name, value)| format!("{name}: {value}")).collect();
        Some((digest, Download { url: href, fields }))
    };
    Ok(answer.objects.into_iter().filter_map(place).collect())
}

#[cfg(test)]
mod tests {
    use super::{Download, answer, request};
    use crate::digest::Digest;
    use crate::git::lfs::pointer::Pointer;
    use proptest::prelude::*;

    #[test]
    fn an_object_has_a_place_unless_it_has_an_error() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let sent = request(&[Pointer { digest: one, bytes: 1 }]);
        assert!(sent.contains(&one.hex()) && sent.contains("\"size\":1"));
        let body = serde_json::json!({ "objects": [
            { "oid": one.hex(), "size": 1, "actions": { "download": {
                "href": "https://lfs.example/1", "header": { "X-A": "b", "X-C\r\n": "d" },
            }}},
            { "oid": two.hex(), "size": 1, "error": { "code": 404, "message": "missing" } },
            { "oid": "no digest", "actions": { "download": { "href": "x" } } },
        ]});
        let found = answer(body.to_string().as_bytes()).unwrap();
        let place =
            Download { url: "https://lfs.example/1".to_owned(), fields: vec!["X-A: b".to_owned()] };
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [(one, place)]);
        assert!(answer(b"{}").is_err() && answer(b"").is_err());
    }

    proptest! {
        #[test]
        fn any_body_is_an_answer_or_an_error(body in "\\PC{0,200}") {
            let _ = answer(body.as_bytes());
        }
    }
}
