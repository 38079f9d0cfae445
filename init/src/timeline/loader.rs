//! The times before the kernel that a boot loader recorded (the Boot Loader Interface in systemd's
//! documentation).
//!
//! `LoaderTimeInitUSec` is the start of the loader and so the duration of the firmware;
//! `LoaderTimeExecUSec` is the start of the kernel. systemd-boot sets both. An EFI stub that the
//! firmware starts directly sets neither. The helper `kiln-loader-times` reads them once kubelet is
//! ready, because the firmware executes the read and may hang, and answers through a pipe that PID
//! 1 polls.

use std::fmt;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::Result;

use crate::console::kmsg;
use crate::machine::efivar;
use crate::process::helper::Helper;

/// The interface's vendor GUID.
const VENDOR: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// The longest answer of the helper: two numbers of 64 bits, a blank and a newline.
const ANSWER_MAX: usize = 64;

/// The recorded times in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// From power-on to the loader.
    pub firmware: Option<u64>,
    /// From the loader to the kernel.
    pub loader: Option<u64>,
}

impl Times {
    /// Converts the values of both variables.
    #[must_use]
    pub fn of(init: Option<u64>, exec: Option<u64>) -> Self {
        let loader = init.zip(exec).and_then(|(init, exec)| exec.checked_sub(init));
        Self { firmware: init, loader }
    }

    /// Parses the helper's answer. A malformed answer has no times.
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

/// Parses a variable's value: decimal digits in UTF-16, ended by a NUL or by the end of the value.
#[must_use]
pub fn microseconds(value: &[u8]) -> Option<u64> {
    let (units, rest) = value.as_chunks::<2>();
    let digits = units.iter().map(|unit| u16::from_le_bytes(*unit)).take_while(|unit| *unit != 0);
    let digits: Option<String> =
        char::decode_utf16(digits).map(|unit| unit.ok().filter(char::is_ascii_digit)).collect();
    digits.filter(|_| rest.is_empty())?.parse().ok()
}

/// Runs the helper.
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

/// A helper that has not answered yet.
#[derive(Debug)]
pub struct Question(OwnedFd);

impl Question {
    /// Starts the helper if the machine has EFI variables.
    pub fn ask() -> Option<Self> {
        if !efivar::offered() {
            return None;
        }
        kmsg::warn_on_error(Helper::LoaderTimes.start_with_answer()).map(Self)
    }

    /// Reads the answer. Call it when the pipe is readable.
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
    fn a_value_is_digits_up_to_its_end() {
        assert_eq!(microseconds(&utf16("5123456\0")), Some(5_123_456));
        assert_eq!(microseconds(&utf16("5123456")), Some(5_123_456));
        assert_eq!(microseconds(&utf16("12\0junk")), Some(12));
        for wrong in ["", "\0", "-1\0", "+1\0", "1.5\0", "99999999999999999999\0", "\u{ff11}\0"] {
            assert_eq!(microseconds(&utf16(wrong)), None, "{wrong:?}");
        }
        assert_eq!(microseconds(b"1"), None);
    }

    #[test]
    fn a_loader_that_ended_before_its_start_has_no_time() {
        assert_eq!(Times::of(Some(7), Some(5)), Times { firmware: Some(7), loader: None });
        assert_eq!(Times::of(Some(5), Some(7)), Times { firmware: Some(5), loader: Some(2) });
        assert_eq!(Times::of(None, Some(7)), Times::default());
    }

    proptest! {
        #[test]
        fn the_helper_s_answer_is_read_as_it_was_written(
            firmware in any::<Option<u64>>(),
            loader in any::<Option<u64>>(),
        ) {
            let times = Times { firmware, loader };
            let text = times.to_string();
            prop_assert!(text.len() <= ANSWER_MAX);
            prop_assert_eq!(Times::parse(text.as_bytes()), times);
        }

        #[test]
        fn a_malformed_answer_has_no_times(text in "[a-z-]{0,20}( [a-z-]{0,20})?") {
            prop_assert_eq!(Times::parse(text.as_bytes()), Times::default());
        }

        #[test]
        fn only_digits_in_utf_16_are_a_number(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            if let Some(number) = microseconds(&bytes) {
                let digits = number.to_string();
                prop_assert!(bytes.chunks(2).any(|unit| unit == [digits.as_bytes()[0], 0]));
            }
        }

        #[test]
        fn any_number_is_read(number in any::<u64>()) {
            prop_assert_eq!(microseconds(&utf16(&format!("{number}\0"))), Some(number));
        }
    }
}
