//! The query of the page's URL: `q` (a part of a name or an address), `state`, and `page`.

use crate::board::escape;
use crate::board::{Health, Row};

/// The most bytes of the filter's text.
const TEXT_BYTES_MAX: usize = 253;

/// A choice of states.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Choice {
    /// All sites.
    #[default]
    All,
    /// Those that are not ready.
    NotReady,
}

/// The request of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// A part of names and addresses, in lower case.
    pub text: String,
    /// The states.
    pub choice: Choice,
    /// The number of the page, from 1.
    pub page: usize,
}

impl Default for Query {
    fn default() -> Self {
        Self { text: String::new(), choice: Choice::All, page: 1 }
    }
}

impl Query {
    /// Reads a query. Anything strange is ignored.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut query = Self::default();
        for part in text.split('&') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = decoded(value);
            match name {
                "q" => {
                    let bounded = value.trim().chars().take(TEXT_BYTES_MAX);
                    query.text = bounded.collect::<String>().to_lowercase();
                }
                "state" if value == "not-ready" => query.choice = Choice::NotReady,
                "page" => query.page = value.parse().unwrap_or(1).max(1),
                _ => {}
            }
        }
        query
    }

    /// True if a row is wanted.
    #[must_use]
    pub fn wants(&self, row: &Row) -> bool {
        let is_state = self.choice == Choice::All || row.health != Health::Ready;
        let url = row.url.as_deref().unwrap_or_default();
        is_state && (row.site.to_string().contains(&self.text) || url.contains(&self.text))
    }

    /// Returns the URL of another page of the same request.
    #[must_use]
    pub fn link(&self, page: usize) -> String {
        let state = if self.choice == Choice::NotReady { "&state=not-ready" } else { "" };
        format!("?q={}{state}&page={page}", escape::query(&self.text))
    }
}

/// Decodes a value of a form (WHATWG URL, `application/x-www-form-urlencoded`).
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        rest = after;
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let digits = digits.filter(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match (byte, digits.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(decoded)) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            (b'+', _) => bytes.push(b' '),
            _ => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
