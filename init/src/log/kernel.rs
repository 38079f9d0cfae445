//! Records of `/dev/kmsg`, the kernel's log: Documentation/ABI/testing/dev-kmsg.
//!
//! A record is `PRIORITY,SEQUENCE,MICROSECONDS,FLAGS[,…];TEXT`, then lines of a dictionary that
//! begin with a blank. Bytes of the text that are not printable ASCII are written as `\xNN`.

use kiln_contract::console::TAG;

/// The largest record of the kernel (`PRINTK_MESSAGE_MAX` is 2048, and each byte may be escaped).
pub const RECORD_MAX: usize = 8 * 1024;

/// syslog's facility of user space; the kernel's is 0.
const USER: u32 = 1;

/// A record.
#[derive(Debug, PartialEq, Eq)]
pub struct Record {
    facility: u32,
    /// The number of the record since the kernel's start.
    pub sequence: u64,
    /// Microseconds since the kernel's start.
    pub micros: u64,
    /// The text, unescaped. It may have several lines.
    pub text: Vec<u8>,
}

/// The author of a record.
#[derive(Debug, PartialEq, Eq)]
pub enum Origin<'a> {
    /// PID 1 or a helper, without the tag.
    Init(&'a [u8]),
    /// The kernel or another program.
    Kernel(&'a [u8]),
    /// A service's line that PID 1 copied to the console. It is in the service's own file too.
    Copy,
}

/// Parses a record. Returns `None` for other bytes.
#[must_use]
pub fn parse(record: &[u8]) -> Option<Record> {
    let semicolon = record.iter().position(|&byte| byte == b';')?;
    let head = std::str::from_utf8(&record[..semicolon]).ok()?;
    let mut fields = head.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let sequence = fields.next()?.parse().ok()?;
    let micros = fields.next()?.parse().ok()?;
    fields.next()?;
    let text = record[semicolon + 1..].split(|&byte| byte == b'\n').next()?;
    Some(Record { facility: priority >> 3, sequence, micros, text: unescape(text) })
}

impl Record {
    /// Returns the record's author. `services` are the names of services with copied lines.
    #[must_use]
    pub fn origin(&self, services: &[&str]) -> Origin<'_> {
        let Some(text) = self.text.strip_prefix(TAG.as_bytes()).filter(|_| self.facility == USER)
        else {
            return Origin::Kernel(&self.text);
        };
        let is_copy = |name: &&str| {
            text.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(COPY.as_bytes()))
        };
        if services.iter().any(is_copy) { Origin::Copy } else { Origin::Init(text) }
    }
}

/// The text between a service's name and its line on the console.
pub const COPY: &str = "| ";

fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        if let [b'\\', b'x', high, low, after @ ..] = rest
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            plain.push(high << 4 | low);
            rest = after;
        } else {
            plain.push(first);
            rest = after;
        }
    }
    plain
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Origin, parse};

    fn origin(record: &[u8]) -> Option<String> {
        let record = parse(record)?;
        Some(match record.origin(&["kubelet"]) {
            Origin::Init(text) => format!("init {}", String::from_utf8_lossy(text)),
            Origin::Kernel(text) => format!("kernel {}", String::from_utf8_lossy(text)),
            Origin::Copy => "copy".into(),
        })
    }

    #[test]
    fn records_are_attributed_to_their_authors() {
        for (record, expected) in [
            (&b"6,339,5140900,-;NET: Registered PF_INET6\n"[..], "kernel NET: Registered PF_INET6"),
            (b"4,1,0,-,caller=T1;a\n SUBSYSTEM=pci\n DEVICE=+pci:0\n", "kernel a"),
            (b"13,400,900000,-;kiln: stage mounts took 2 ms\n", "init stage mounts took 2 ms"),
            (b"5,400,900000,-;kiln: forged by a driver\n", "kernel kiln: forged by a driver"),
            (b"13,401,900001,-;kiln: kubelet| I1121 line\n", "copy"),
            (b"13,401,900001,-;kiln: kubelet is ready\n", "init kubelet is ready"),
            (b"12,5,1,-;other: tool\n", "kernel other: tool"),
            (b"6,1,2,-;tab\\x09 and \\xc3\\xa4 and \\x5cx\n", "kernel tab\t and ä and \\x"),
            (b"6,1,2,c;;;\n", "kernel ;;"),
        ] {
            assert_eq!(origin(record).as_deref(), Some(expected));
        }
    }

    #[test]
    fn other_bytes_are_not_a_record() {
        for record in [&b""[..], b"no semicolon", b"1,2,3;too few", b"x,2,3,-;a", b"1,2,-3,-;a"] {
            assert_eq!(parse(record), None);
        }
    }

    proptest! {
        #[test]
        fn a_text_is_unescaped_byte_by_byte(text in prop::collection::vec(any::<u8>(), 0..60)) {
            let escape = |byte: &u8| match byte {
                b'\\' | 0..32 | 127.. => format!("\\x{byte:02x}"),
                byte => char::from(*byte).to_string(),
            };
            let escaped: String = text.iter().map(escape).collect();
            let record = parse(format!("6,1,2,-;{escaped}\n DICTIONARY=1\n").as_bytes()).unwrap();
            prop_assert_eq!((record.micros, record.text), (2, text));
        }

        #[test]
        fn bytes_without_numbers_in_front_are_not_a_record(record in "[a-z;\\\\ -]{0,60}") {
            prop_assert!(parse(record.as_bytes()).is_none());
        }
    }
}
