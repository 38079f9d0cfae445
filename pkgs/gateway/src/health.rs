//! Whether a backend is up, by the results of its checks; and the check itself over HTTP.

use crate::config::{Check, Get};

/// Most bytes of an answer's status line that are looked at.
pub const STATUS_BYTES_MAX: usize = 256;

/// A backend's health. It is up until checks say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    up: bool,
    /// Results in a row that say the opposite.
    against: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self { up: true, against: 0 }
    }
}

impl Health {
    /// Whether it is up.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.up
    }

    /// Takes a check's result; true if the backend has gone up or down by it.
    pub fn record(&mut self, good: bool, check: &Check) -> bool {
        if good == self.up {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let needed = if self.up { check.fall } else { check.rise };
        if self.against < needed {
            return false;
        }
        *self = Self { up: good, against: 0 };
        true
    }
}

/// The request of a check.
#[must_use]
pub fn request(get: &Get, backend: &str) -> Vec<u8> {
    let (path, host) = (&get.path, get.host.as_deref().unwrap_or(backend));
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: kiln-gateway\r\nConnection: close\r\n\r\n")
        .into_bytes()
}

/// Whether the beginning of an answer is a good one; `None` while its status is missing.
#[must_use]
pub fn verdict(get: &Get, answer: &[u8]) -> Option<bool> {
    let begins = answer.iter().zip(b"HTTP/1.").all(|(one, other)| one == other);
    if !begins {
        return Some(false);
    }
    let digits = answer.get(9..12)?;
    let status = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u16>().ok());
    let good = |status| get.status.map_or((200..400).contains(&status), |wanted| wanted == status);
    Some(answer[8] == b' ' && status.is_some_and(good))
}

#[cfg(test)]
mod tests {
    use super::{Health, request, verdict};
    use crate::config::{Check, Get};
    use proptest::prelude::*;

    fn check() -> Check {
        Check { http: None, interval: 1, timeout: 1, rise: 2, fall: 3 }
    }

    #[test]
    fn it_takes_as_many_results_in_a_row_as_the_check_says() {
        let mut health = Health::default();
        let changes: Vec<bool> =
            [false, false, true, false, false, false, false, true, false, true, true]
                .map(|good| health.record(good, &check()))
                .to_vec();
        let expected = [false, false, false, false, false, true, false, false, false, false, true];
        assert_eq!(changes, expected);
        assert!(health.is_up());
    }

    #[test]
    fn a_status_is_judged_as_soon_as_it_is_there() {
        let any = Get { path: "/h".into(), host: None, status: None };
        let exact = Get { status: Some(204), ..any.clone() };
        assert_eq!(verdict(&any, b"HTTP/1.1 2"), None);
        assert_eq!(verdict(&any, b"HTTP/1.1 200"), Some(true));
        assert_eq!(verdict(&any, b"HTTP/1.1 404 x"), Some(false));
        assert_eq!(verdict(&exact, b"HTTP/1.1 204 x"), Some(true));
        assert_eq!(verdict(&exact, b"HTTP/1.1 200 x"), Some(false));
        assert_eq!(verdict(&any, b"SSH-2.0"), Some(false));
        assert!(request(&any, "b:80").starts_with(b"GET /h HTTP/1.1\r\nHost: b:80\r\n"));
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(answer: Vec<u8>) {
            let _ = verdict(&Get { path: "/".into(), host: None, status: None }, &answer);
        }
    }
}
