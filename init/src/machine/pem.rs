//! Certificates in PEM (RFC 7468), as far as a mistake in a credential can be recognised.

use super::base64;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// Returns the certificates of a text in PEM, or the reason why it has none.
///
/// Text around the certificates is allowed. Other objects, above all private keys, are an error,
/// because a node must not have the key of an authority.
pub fn certificates(text: &str) -> Result<Vec<Vec<u8>>, &'static str> {
    if text.contains("PRIVATE KEY-----") {
        return Err("has a private key");
    }
    let mut certificates = Vec::new();
    for part in text.split(BEGIN).skip(1) {
        let (body, _) = part.split_once(END).ok_or("has a certificate without an end")?;
        let digits: Vec<u8> = body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let der = base64::decode(&digits).ok_or("has a certificate that is not base64")?;
        if !is_sequence(&der) {
            return Err("has a certificate that is damaged");
        }
        certificates.push(der);
    }
    if certificates.is_empty() { Err("has no certificate in PEM") } else { Ok(certificates) }
}

/// True for one DER SEQUENCE (X.690, 8.9) of exactly this length.
fn is_sequence(der: &[u8]) -> bool {
    let Some((0x30, [first, rest @ ..])) = der.split_first() else { return false };
    let digits = usize::from(first & 0x7f);
    match first {
        0..=0x7f => rest.len() == usize::from(*first),
        0x81..=0x84 if rest.len() >= digits => {
            let length = rest[..digits].iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            rest.len() - digits == length
        }
        _ => false,
    }
}

/// Returns a text in PEM with these certificates.
#[must_use]
pub fn text(certificates: &[Vec<u8>]) -> String {
    let mut text = String::new();
    for der in certificates {
        text.push_str(BEGIN);
        let digits = base64::encode(der);
        for (at, digit) in digits.char_indices() {
            if at % 64 == 0 {
                text.push('\n');
            }
            text.push(digit);
        }
        text.extend(["\n", END, "\n"]);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{certificates, text};

    /// A DER sequence of any bytes.
    fn sequence(bytes: &[u8]) -> Vec<u8> {
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        [&[0x30, 0x82][..], &length, bytes].concat()
    }

    #[test]
    fn mistakes_are_recognised() {
        let good = text(&[sequence(b"abc")]);
        for (pem, expected) in [
            (String::new(), Err("has no certificate in PEM")),
            ("a path: /etc/ca.crt".into(), Err("has no certificate in PEM")),
            (good.replace("END", "EN"), Err("has a certificate without an end")),
            (good.replace("\nM", "\n!"), Err("has a certificate that is not base64")),
            (good.replace("\nMII", "\nMIA"), Err("has a certificate that is damaged")),
            (format!("{good}-----BEGIN EC PRIVATE KEY-----"), Err("has a private key")),
            (format!("Subject: a\n{good}"), Ok(vec![sequence(b"abc")])),
            (good.replace('\n', "\r\n"), Ok(vec![sequence(b"abc")])),
        ] {
            assert_eq!(certificates(&pem), expected, "{pem}");
        }
    }

    proptest! {
        #[test]
        fn certificates_come_back(list in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..3)) {
            let list: Vec<_> = list.iter().map(|bytes| sequence(bytes)).collect();
            let pem = text(&list);
            prop_assert!(pem.lines().all(|line| line.len() <= 64));
            prop_assert_eq!(certificates(&pem), Ok(list));
        }

        #[test]
        fn any_text_is_judged(text in "(-----BEGIN CERTIFICATE-----|-----END CERTIFICATE-----|[A-Za-z0-9+/=\n]|.){0,40}") {
            let _ = certificates(&text);
        }
    }
}
