//! kubeconfigs: writing one with a token, and finding server and authority in another program's.
//!
//! They are YAML or JSON. Only the keys of one cluster are looked for; kubelet parses the rest.

use kiln_base::json;

use super::cluster::Cluster;
use crate::machine::{base64, pem};

/// Returns a kubeconfig with a bootstrap token, as JSON, which is YAML too.
#[must_use]
pub fn with_token(server: &str, ca: &str, token: &str) -> String {
    let quote = |text: &str| {
        let mut out = String::new();
        json::string(&mut out, text);
        out
    };
    let (server, token) = (quote(server), quote(token));
    let ca = quote(&base64::encode(ca.as_bytes()));
    format!(
        r#"{{"apiVersion":"v1","kind":"Config","current-context":"kiln",
"clusters":[{{"name":"kiln","cluster":{{"server":{server},
"certificate-authority-data":{ca}}}}}],
"users":[{{"name":"kiln","user":{{"token":{token}}}}}],
"contexts":[{{"name":"kiln","context":{{"cluster":"kiln","user":"kiln"}}}}]}}
"#
    )
}

/// Returns the cluster of a kubeconfig, or the reason why kubelet could not use it.
pub fn cluster(text: &str) -> Result<Cluster, &'static str> {
    let server = value(text, "server").ok_or("has no server")?;
    for (key, cause) in [
        ("clusters", "has no clusters"),
        ("contexts", "has no contexts"),
        ("users", "has no users"),
        ("current-context", "has no current-context"),
    ] {
        if after_key(text, key).is_none() {
            return Err(cause);
        }
    }
    let ca = value(text, "certificate-authority-data");
    let ca = ca.and_then(|ca| base64::decode(ca.as_bytes()));
    let ca = ca.and_then(|ca| String::from_utf8(ca).ok());
    let ca = ca.and_then(|ca| pem::certificates(&ca).ok()).map(|list| pem::text(&list));
    Ok(Cluster::new(server.trim_end_matches('/').to_owned(), ca))
}

/// Returns the value of the first key of this name.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let rest = after_key(text, key)?.trim_start_matches([' ', '\t']);
    let value = match rest.chars().next()? {
        quote @ ('"' | '\'') => rest[1..].split(quote).next()?,
        _ => rest.split([' ', '\t', '\r', '\n', ',', '}']).next()?,
    };
    (!value.is_empty()).then_some(value)
}

/// Returns the text after `KEY:` or `"KEY":`.
fn after_key<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.match_indices(key).find_map(|(at, _)| {
        let before = text[..at].chars().next_back();
        let begins = before.is_none_or(|c| c.is_whitespace() || "\"'{,".contains(c));
        let rest = text[at + key.len()..].trim_start_matches(['"', '\'']);
        begins.then(|| rest.trim_start_matches(' ').strip_prefix(':'))?
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{cluster, with_token};
    use crate::machine::{base64, pem};

    fn ca() -> String {
        pem::text(&[vec![0x30, 3, 1, 2, 3]])
    }

    #[test]
    fn the_cluster_is_found_in_yaml_and_json() {
        let yaml = format!(
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: {}\n    server: \
             https://a:6443\n  name: default-cluster\ncontexts: []\ncurrent-context: c\nkind: \
             Config\nusers: []\n",
            base64::encode(ca().as_bytes())
        );
        for text in [yaml, with_token("https://a:6443", &ca(), "t")] {
            let found = cluster(&text).unwrap();
            assert_eq!((found.server.as_str(), found.ca), ("https://a:6443", Some(ca())), "{text}");
        }
    }

    #[test]
    fn a_part_that_kubelet_needs_is_missed() {
        let text = with_token("https://a:6443", &ca(), "t");
        assert_eq!(cluster(&text.replace("contexts", "x")), Err("has no contexts"));
        assert_eq!(cluster(&text.replace("server", "x")), Err("has no server"));
        assert_eq!(cluster(&text.replace("authority-data", "x")).unwrap().ca, None);
        assert_eq!(cluster("api-server: a"), Err("has no server"));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(server|clusters|:|\"|'| |\n|.){0,60}") {
            let _ = cluster(&text);
        }
    }
}
