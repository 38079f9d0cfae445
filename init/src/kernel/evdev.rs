//! The power button: input devices that have a power key (Documentation/input/event-codes.rst).
//!
//! Only devices with this key are opened, so that other keystrokes do not wake PID 1.

use std::fs;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{Mode, OFlags};

/// `KEY_POWER` of include/uapi/linux/input-event-codes.h.
const KEY_POWER: u16 = 116;

/// `EV_KEY`.
const EV_KEY: u16 = 1;

/// `struct input_event` on 64-bit machines: two longs of time, type, code, value.
const EVENT_SIZE: usize = 24;

/// The number of presses of the fixed power button that the kernel's ACPI driver saw
/// (Documentation/ABI/testing/sysfs-firmware-acpi).
const ACPI_COUNT: &str = "/sys/firmware/acpi/interrupts/ff_pwr_btn";

/// This number at the start of PID 1, because firmware may leave the press that switched the
/// machine on.
static PRESSES: AtomicU64 = AtomicU64::new(u64::MAX);

/// Stores the number of presses before PID 1 started.
pub fn remember_presses() {
    PRESSES.store(presses().unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// True if the button was pressed since [`remember_presses`]. It is called when the first device is
/// opened, because an input device reports only the presses while it is open.
#[must_use]
pub fn pressed_before() -> bool {
    presses().is_some_and(|now| now > PRESSES.load(Ordering::Relaxed))
}

fn presses() -> Option<u64> {
    parse_count(&fs::read_to_string(ACPI_COUNT).ok()?)
}

/// Returns the first word as a number. The other words are the interrupt's state.
fn parse_count(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// True if bytes read from a device contain a press of the power key.
#[must_use]
pub fn power_pressed(bytes: &[u8]) -> bool {
    bytes.chunks_exact(EVENT_SIZE).any(|event| {
        let word = |at: usize| u16::from_ne_bytes([event[at], event[at + 1]]);
        let value = i32::from_ne_bytes([event[20], event[21], event[22], event[23]]);
        word(16) == EV_KEY && word(18) == KEY_POWER && value == 1
    })
}

/// True if a device's key bitmap, as sysfs prints it, contains the power key.
///
/// The bitmap is words of 64 bits in hexadecimal, the highest first.
#[must_use]
pub fn has_power_key(bitmap: &str) -> bool {
    let word = bitmap.split_ascii_whitespace().rev().nth(usize::from(KEY_POWER / 64));
    let bits = word.and_then(|word| u64::from_str_radix(word, 16).ok()).unwrap_or_default();
    bits >> (KEY_POWER % 64) & 1 == 1
}

/// A device with a power key.
#[derive(Debug)]
pub struct Button {
    /// The name below `/dev`.
    pub device: String,
    /// The descriptor that its events are read from.
    pub fd: OwnedFd,
}

/// Opens a device (`input/event0`) if it has a power key.
#[must_use]
pub fn open(device: &str) -> Option<Button> {
    let name = device.strip_prefix("input/").filter(|name| name.starts_with("event"))?;
    let keys = format!("/sys/class/input/{name}/device/capabilities/key");
    if !has_power_key(&fs::read_to_string(keys).ok()?) {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::open(format!("/dev/{device}"), flags, Mode::empty()).ok()?;
    Some(Button { device: device.into(), fd })
}

/// Opens all devices with a power key that exist now.
#[must_use]
pub fn open_all() -> Vec<Button> {
    let entries = fs::read_dir("/dev/input").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| open(&format!("input/{name}"))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{EVENT_SIZE, has_power_key, parse_count, power_pressed};

    fn event(kind: u16, code: u16, value: i32) -> [u8; EVENT_SIZE] {
        let mut bytes = [0; EVENT_SIZE];
        bytes[16..18].copy_from_slice(&kind.to_ne_bytes());
        bytes[18..20].copy_from_slice(&code.to_ne_bytes());
        bytes[20..].copy_from_slice(&value.to_ne_bytes());
        bytes
    }

    #[test]
    fn only_a_press_of_the_power_key_counts() {
        assert!(power_pressed(&[event(1, 30, 1), event(1, 116, 1)].concat()));
        assert!(!power_pressed(&event(1, 116, 0)));
        assert!(!power_pressed(&event(0, 116, 1)));
        assert!(!power_pressed(&event(1, 116, 1)[..20]));
    }

    #[test]
    fn the_number_of_presses_is_the_first_word() {
        assert_eq!(parse_count("       2  EN     enabled      unmasked\n"), Some(2));
        assert_eq!(parse_count("invalid\n"), None);
        assert_eq!(parse_count(""), None);
    }

    #[test]
    fn the_last_word_of_the_bitmap_is_the_lowest() {
        assert!(has_power_key("10000000000000 0\n"));
        assert!(!has_power_key("10000000000000\n"));
        assert!(!has_power_key(""));
    }

    proptest! {
        #[test]
        fn a_press_is_found_among_any_other_events(
            events in prop::collection::vec((0..4_u16, 114..118_u16, 0..3_i32), 0..20),
            rest in prop::collection::vec(any::<u8>(), 0..EVENT_SIZE),
        ) {
            let mut bytes: Vec<u8> = events.iter().flat_map(|&(k, c, v)| event(k, c, v)).collect();
            bytes.extend(rest);
            prop_assert_eq!(power_pressed(&bytes), events.contains(&(1, 116, 1)));
        }

        #[test]
        fn the_bit_of_the_key_decides(words in prop::collection::vec(any::<u64>(), 0..12)) {
            let bitmap: Vec<String> = words.iter().rev().map(|word| format!("{word:x}")).collect();
            let expected = words.get(1).is_some_and(|word| word >> 52 & 1 == 1);
            prop_assert_eq!(has_power_key(&bitmap.join(" ")), expected);
        }

        #[test]
        fn the_count_is_read_before_any_other_words(count: u64, rest in "( [a-z0-9]{0,9}){0,4}") {
            prop_assert_eq!(parse_count(&format!("  {count}{rest}\n")), Some(count));
        }
    }
}
