//! The headers of each forge, and the check of signatures.
//!
//! | forge | event | delivery | proof |
//! | --- | --- | --- | --- |
//! | GitHub | `X-GitHub-Event` | `X-GitHub-Delivery` | `X-Hub-Signature-256: sha256=HEX` |
//! | Forgejo | `X-Forgejo-Event` | `X-Forgejo-Delivery` | `X-Forgejo-Signature: HEX` |
//! | Gitea | `X-Gitea-Event` | `X-Gitea-Delivery` | `X-Gitea-Signature: HEX` |
//! | GitLab | `X-Gitlab-Event` | `X-Gitlab-Event-UUID` | `X-Gitlab-Token`, the secret itself |
//! | Bitbucket | `X-Event-Key` | `X-Request-UUID`, `X-Request-Id` | `X-Hub-Signature: sha256=HEX` |
//!
//! Forgejo and Gitea also send the headers of the forges that they descend from, therefore they come
//! first.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The shortest secret. A shorter one can be guessed from one delivery.
pub const SECRET_BYTES_MIN: usize = 16;

/// The most bytes of a delivery's name.
const DELIVERY_BYTES_MAX: usize = 128;

/// A forge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forge {
    /// Forgejo, and Codeberg.
    Forgejo,
    /// Gitea.
    Gitea,
    /// GitHub.
    GitHub,
    /// GitLab.
    GitLab,
    /// Bitbucket Cloud and Data Center.
    Bitbucket,
}

/// The headers of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// The forge.
    pub forge: Forge,
    /// The name of the event.
    pub event: &'a str,
    /// The name of the delivery, if the forge sent a usable one.
    pub id: Option<&'a str>,
    proof: Option<&'a str>,
}

/// The names of headers: of the event, of the delivery, and of the proof.
const HEADERS: [(Forge, &str, [&str; 2], &str); 5] = [
    (Forge::Forgejo, "x-forgejo-event", ["x-forgejo-delivery"; 2], "x-forgejo-signature"),
    (Forge::Gitea, "x-gitea-event", ["x-gitea-delivery"; 2], "x-gitea-signature"),
    (Forge::GitHub, "x-github-event", ["x-github-delivery"; 2], "x-hub-signature-256"),
    (
        Forge::GitLab,
        "x-gitlab-event",
        ["x-gitlab-event-uuid", "x-gitlab-webhook-uuid"],
        "x-gitlab-token",
    ),
    (Forge::Bitbucket, "x-event-key", ["x-request-uuid", "x-request-id"], "x-hub-signature"),
];

/// Reads the headers; nothing if they are those of no known forge. `header` returns a header by its
/// name in lower case.
pub fn delivery<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<Delivery<'a>> {
    let (forge, event, ids, proof) =
        HEADERS.into_iter().find(|(_, event, ..)| header(event).is_some())?;
    let is_usable = |id: &&str| {
        !id.is_empty()
            && id.len() <= DELIVERY_BYTES_MAX
            && id.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let id = ids.into_iter().find_map(&header).filter(is_usable);
    Some(Delivery { forge, event: header(event)?, id, proof: header(proof) })
}

impl Delivery<'_> {
    /// True if one of the secrets proves the body. The time tells nothing about a secret, because
    /// signatures are compared in constant time.
    #[must_use]
    pub fn is_proven(&self, body: &[u8], secrets: &[Vec<u8>]) -> bool {
        let Some(proof) = self.proof else { return false };
        let usable = secrets.iter().filter(|secret| secret.len() >= SECRET_BYTES_MIN);
        match self.forge {
            Forge::GitLab => usable.into_iter().any(|secret| is_equal(proof, secret)),
            Forge::Forgejo | Forge::Gitea => is_signed(proof, body, usable),
            Forge::GitHub | Forge::Bitbucket => {
                proof.strip_prefix("sha256=").is_some_and(|proof| is_signed(proof, body, usable))
            }
        }
    }
}

fn is_signed<'a>(proof: &str, body: &[u8], secrets: impl IntoIterator<Item = &'a Vec<u8>>) -> bool {
    let Some(proof) = unhex(proof) else { return false };
    secrets.into_iter().any(|secret| {
        let mac = Hmac::<Sha256>::new_from_slice(secret);
        mac.is_ok_and(|mac| mac.chain_update(body).verify_slice(&proof).is_ok())
    })
}

/// Compares a token with a secret, over their signatures, so that neither content nor length shows in
/// the time.
#[must_use]
pub fn is_equal(token: &str, secret: &[u8]) -> bool {
    let sign = |bytes: &[u8]| {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
        mac.update(bytes);
        Some(mac)
    };
    match (sign(token.as_bytes()), sign(secret)) {
        (Some(token), Some(secret)) => token.verify(&secret.finalize().into_bytes()).is_ok(),
        _ => false,
    }
}

/// Decodes the 64 digits of a signature.
fn unhex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Forge, delivery};
    use proptest::prelude::*;

    const BODY: &[u8] = b"Hello, World!";
    const SECRET: &[u8] = b"It's a Secret to Everybody";
    /// The example of GitHub's documentation.
    const SIGNATURE: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn is_proven(
        headers: &[(&str, &str)],
        body: &[u8],
        secrets: &[&[u8]],
    ) -> Option<(Forge, bool)> {
        let header = |name: &str| headers.iter().find(|one| one.0 == name).map(|one| one.1);
        let delivery = delivery(header)?;
        let secrets: Vec<Vec<u8>> = secrets.iter().map(|secret| secret.to_vec()).collect();
        Some((delivery.forge, delivery.is_proven(body, &secrets)))
    }

    #[test]
    fn each_forge_proves_itself_in_its_own_way() {
        let prefixed = format!("sha256={SIGNATURE}");
        let token = std::str::from_utf8(SECRET).unwrap();
        for (forge, event, name, proof) in [
            (Forge::GitHub, "x-github-event", "x-hub-signature-256", prefixed.as_str()),
            (Forge::Forgejo, "x-forgejo-event", "x-forgejo-signature", SIGNATURE),
            (Forge::Gitea, "x-gitea-event", "x-gitea-signature", SIGNATURE),
            (Forge::GitLab, "x-gitlab-event", "x-gitlab-token", token),
            (Forge::Bitbucket, "x-event-key", "x-hub-signature", prefixed.as_str()),
        ] {
            let headers = [(event, "push"), (name, proof)];
            let other: &[u8] = b"another secret that is long";
            assert_eq!(is_proven(&headers, BODY, &[SECRET]), Some((forge, true)));
            assert_eq!(is_proven(&headers, BODY, &[other, SECRET]), Some((forge, true)));
            assert_eq!(is_proven(&headers, BODY, &[other]), Some((forge, false)));
            assert_eq!(is_proven(&headers, BODY, &[]), Some((forge, false)));
            assert_eq!(is_proven(&headers[..1], BODY, &[SECRET]), Some((forge, false)));
            if forge != Forge::GitLab {
                assert_eq!(is_proven(&headers, b"other", &[SECRET]), Some((forge, false)));
            }
        }
    }

    #[test]
    fn forgejo_and_gitea_are_told_from_their_ancestors() {
        let headers = [("x-github-event", "push"), ("x-gitea-event", "push")];
        assert_eq!(is_proven(&headers, BODY, &[]).unwrap().0, Forge::Gitea);
        let headers = [headers[0], headers[1], ("x-forgejo-event", "push")];
        assert_eq!(is_proven(&headers, BODY, &[]).unwrap().0, Forge::Forgejo);
        assert_eq!(is_proven(&[("x-event", "push")], BODY, &[]), None);
    }

    #[test]
    fn a_short_secret_proves_nothing() {
        for secret in [&b""[..], b"short"] {
            let text = std::str::from_utf8(secret).unwrap();
            let headers = [("x-gitlab-event", "Push Hook"), ("x-gitlab-token", text)];
            assert_eq!(is_proven(&headers, BODY, &[secret]), Some((Forge::GitLab, false)));
        }
    }

    proptest! {
        #[test]
        fn no_other_text_is_a_proof(proof in "(sha256=)?[0-9a-fA-F]{60,66}|\\PC{0,80}") {
            let headers = [("x-github-event", "push"), ("x-hub-signature-256", proof.as_str())];
            let is_right = proof.to_ascii_lowercase() == format!("sha256={SIGNATURE}");
            prop_assert_eq!(is_proven(&headers, BODY, &[SECRET]).unwrap().1, is_right);
        }
    }
}
