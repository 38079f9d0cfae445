//! What a boot loader noted of the time before the kernel: the Boot Loader Interface of systemd's
//! documentation.
//!
//! `LoaderTimeInitUSec` is when the loader began, which is what the firmware took, and
//! `LoaderTimeExecUSec` when it started the kernel. systemd-boot sets both; an EFI stub that the
//! firmware started itself sets none. A helper reads them once kubelet is ready, since reading a
//! variable is the firmware's work, and answers through a pipe that PID 1 polls: a firmware that
//! hangs costs a process and nothing else.

use std::fmt;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::Result;

use crate::console::kmsg;
use crate::machine::efivar;
use crate::process::helper::Helper;

/// The interface's vendor GUID.
const VENDOR: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// Longest answer of the helper: two numbers of 64 bits, a blank and a newline.
const ANSWER_MAX: usize = 64;

/// Microseconds, where a loader noted them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// From power-on to the loader.
    pub firmware: Option<u64>,
    /// From the loader to the kernel.
    pub loader: Option<u64>,
}

impl Times {
    /// From both variables' values, as the firmware has them.
    #[must_use]
    pub fn of(init: Option<u64>, exec: Option<u64>) -> Self {
        let loader = init.zip(exec).and_then(|(init, exec)| exec.checked_sub(init));
        Self { firmware: init, loader }
    }

    /// Reads the helper's answer; anything else is no times.
    #[must_use]
    pub fn parse(answer: &[u8]) -> Self {
        let text = std::str::from_utf8(answer).unwrap_or_default();
        let mut numbers = text.split_ascii_whitespace().map(|word| word.parse().ok());
        Self { firmware: numbers.next().flatten(), loader: numbers.next().flatten() }
    }
}

/// The helper's answer.
impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number =
            |micros: Option<u64>| micros.map_or_else(|| "-".into(), |micros| micros.to_string());
        writeln!(f, "{} {}", number(self.firmware), number(self.loader))
    }
}

/// A variable's value: decimal digits in UTF-16, ended by a NUL or by the variable's end.
#[must_use]
pub fn microseconds(value: &[u8]) -> Option<u64> {
    let (units, rest) = value.as_chunks::<2>();
    let digits = units.iter().map(|unit| u16::from_le_bytes(*unit)).take_while(|unit| *unit != 0);
    let digits: Option<String> =
        char::decode_utf16(digits).map(|unit| unit.ok().filter(char::is_ascii_digit)).collect();
    digits.filter(|_| rest.is_empty())?.parse().ok()
}

/// The helper.
#[must_use]
pub fn run() -> i32 {
    kmsg::open();
    let value = |name: &str| -> Result<Option<u64>> {
        Ok(efivar::read(name, VENDOR)?.and_then(|value| microseconds(&value)))
    };
    let times = value("LoaderTimeInitUSec")
        .and_then(|init| Ok(Times::of(init, value("LoaderTimeExecUSec")?)));
    let times = kmsg::warn_on_error(times).unwrap_or_default();
    i32::from(write!(std::io::stdout(), "{times}").is_err())
}

/// A helper that was asked and has not answered yet.
#[derive(Debug)]
pub struct Question(OwnedFd);

impl Question {
    /// Asks, where the machine has variables at all.
    pub fn ask() -> Option<Self> {
        if !efivar::offered() {
            return None;
        }
        kmsg::warn_on_error(Helper::LoaderTimes.start_with_answer()).map(Self)
    }

    /// The answer, once the pipe can be read.
    #[must_use]
    pub fn answer(self) -> Times {
        let mut bytes = [0; ANSWER_MAX];
        let length = rustix::io::read(&self.0, &mut bytes).unwrap_or(0);
        Times::parse(&bytes[..length])
    }
}

impl AsFd for Question {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{ANSWER_MAX, Times, microseconds};

    fn utf16(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn a_value_is_digits_and_an_end() {
        assert_eq!(microseconds(&utf16("5123456\0")), Some(5_123_456));
        assert_eq!(microseconds(&utf16("5123456")), Some(5_123_456));
        assert_eq!(microseconds(&utf16("12\0junk")), Some(12));
        for wrong in ["", "\0", "-1\0", "+1\0", "1.5\0", "99999999999999999999\0", "\u{ff11}\0"] {
            assert_eq!(microseconds(&utf16(wrong)), None, "{wrong:?}");
        }
        assert_eq!(microseconds(b"1"), None);
    }

    #[test]
    fn a_loader_that_ended_before_it_began_has_no_time() {
        assert_eq!(Times::of(Some(7), Some(5)), Times { firmware: Some(7), loader: None });
        assert_eq!(Times::of(Some(5), Some(7)), Times { firmware: Some(5), loader: Some(2) });
        assert_eq!(Times::of(None, Some(7)), Times::default());
    }

    proptest! {
        #[test]
        fn what_the_helper_says_is_what_is_read(
            firmware in any::<Option<u64>>(),
            loader in any::<Option<u64>>(),
        ) {
            let times = Times { firmware, loader };
            let text = times.to_string();
            prop_assert!(text.len() <= ANSWER_MAX);
            prop_assert_eq!(Times::parse(text.as_bytes()), times);
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = (microseconds(&bytes), Times::parse(&bytes));
        }

        #[test]
        fn any_number_is_read(number in any::<u64>()) {
            prop_assert_eq!(microseconds(&utf16(&format!("{number}\0"))), Some(number));
        }
    }
}
