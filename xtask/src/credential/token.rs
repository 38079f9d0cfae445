//! Bootstrap tokens (Kubernetes' documentation, "Authenticating with Bootstrap Tokens").

use std::fmt;
use std::str::FromStr;

use anyhow::{Error, ensure};

const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 16;

/// A bootstrap token, `ID.SECRET`. `Debug` and `Display` leave the secret out.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: String,
    secret: String,
}

impl Token {
    /// The public part, by which the cluster names the token.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The secret part.
    pub(super) fn secret(&self) -> &[u8] {
        self.secret.as_bytes()
    }

    /// Returns the whole token.
    pub(super) fn reveal(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let is_part = |part: &str, length| {
            let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            part.len() == length && part.bytes().all(known)
        };
        let parts = text
            .split_once('.')
            .filter(|(id, secret)| is_part(id, ID_BYTES) && is_part(secret, SECRET_BYTES));
        // The text may be a secret with a typo, so it is not repeated.
        ensure!(
            parts.is_some(),
            "the token is not a bootstrap token: {ID_BYTES} lower-case letters and digits, a dot, and \
             {SECRET_BYTES} more are expected; `kubeadm token create` makes one"
        );
        let (id, secret) = parts.unwrap_or_default();
        Ok(Self { id: id.to_owned(), secret: secret.to_owned() })
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl fmt::Display for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.…", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::Token;

    #[test]
    fn a_token_is_never_shown_whole() {
        let token: Token = "abcdef.0123456789abcdef".parse().unwrap();
        assert_eq!(format!("{token} {token:?}"), "abcdef.… abcdef.…");
        assert_eq!(token.reveal(), "abcdef.0123456789abcdef");
    }

    #[test]
    fn a_token_of_another_form_is_refused_without_repeating_it() {
        for text in [
            "",
            "abcdef",
            "abcdef.0123456789abcde",
            "abcdef.0123456789abcdefg",
            "abcde.0123456789abcdef",
            "ABCDEF.0123456789abcdef",
            "abcdef-0123456789abcdef",
            "abcdef.0123456789abcdef\n",
            "abcdef.0123456789.bcdef",
        ] {
            let error = text.parse::<Token>().unwrap_err().to_string();
            assert!(error.contains("is not a bootstrap token"), "{error}");
            assert!(text.len() < 6 || !error.contains(text), "{error}");
        }
    }
}
