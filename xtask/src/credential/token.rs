//! Bootstrap tokens (Kubernetes' documentation, "Authenticating with Bootstrap Tokens").

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::str::FromStr;

use anyhow::{Context, Error, Result, ensure};

/// The characters of a token, and the lengths of its two parts (`BootstrapTokenPattern` in
/// k8s.io/cluster-bootstrap).
const CHARACTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
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
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Returns the whole token.
    pub fn reveal(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    /// Makes a new token.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; ID_BYTES + SECRET_BYTES];
        let mut source = File::open("/dev/urandom").context("cannot open /dev/urandom")?;
        source.read_exact(&mut bytes).context("cannot read /dev/urandom")?;
        let letter = |byte: &u8| char::from(CHARACTERS[usize::from(*byte) % CHARACTERS.len()]);
        let (id, secret) = bytes.split_at(ID_BYTES);
        Ok(Self {
            id: id.iter().map(letter).collect(),
            secret: secret.iter().map(letter).collect(),
        })
    }
}

impl FromStr for Token {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let is_part = |part: &str, length| {
            part.len() == length && part.bytes().all(|byte| CHARACTERS.contains(&byte))
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
    fn a_new_token_has_the_form_that_kubernetes_wants() {
        let token = Token::random().unwrap();
        assert_eq!(token.reveal().parse::<Token>().unwrap(), token);
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
