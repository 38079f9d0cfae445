//! The health of a backend, derived from the results of its checks, and the messages of HTTP checks.

use crate::config::{Check, Get};

/// The maximum number of bytes read of a response's status line.
pub const STATUS_BYTES_MAX: usize = 256;

/// A backend's health. A backend is up until its checks fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    up: bool,
    /// Results in a row that contradict `up`.
    against: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self { up: true, against: 0 }
    }
}

impl Health {
    /// True if the backend is up.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.up
    }

    /// Records a check's result; returns true if the backend went up or down.
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

/// Returns the request of a check.
#[must_use]
pub fn request(get: &Get, backend: &str) -> Vec<u8> {
    let (path, host) = (&get.path, get.host.as_deref().unwrap_or(backend));
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: kiln-gateway\r\nConnection: close\r\n\r\n")
        .into_bytes()
}

/// Returns true if the beginning of a response shows a healthy backend; `None` while its status is
/// incomplete.
#[must_use]
pub fn verdict(get: &Get, response: &[u8]) -> Option<bool> {
    let begins = response.iter().zip(b"HTTP/1.").all(|(one, other)| one == other);
    if !begins {
        return Some(false);
    }
    let digits = response.get(9..12)?;
    let status = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u16>().ok());
    let good = |status| get.status.map_or((200..400).contains(&status), |wanted| wanted == status);
    Some(response[8] == b' ' && status.is_some_and(good))
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
    fn a_backend_changes_after_the_configured_number_of_results_in_a_row() {
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
    fn a_status_counts_as_soon_as_it_is_complete() {
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
        fn only_a_status_from_200_to_399_is_healthy(status in 100_u16..1000, cut in 0_usize..12) {
            let get = Get { path: "/".into(), host: None, status: None };
            let text = format!("HTTP/1.1 {status} x");
            prop_assert_eq!(verdict(&get, text.as_bytes()), Some((200..400).contains(&status)));
            prop_assert_eq!(verdict(&get, &text.as_bytes()[..cut]), None);
        }

        #[test]
        fn other_bytes_are_never_healthy(response: Vec<u8>) {
            let get = Get { path: "/".into(), host: None, status: None };
            prop_assume!(!response.starts_with(b"HTTP/1."));
            prop_assert_ne!(verdict(&get, &response), Some(true));
        }
    }
}
