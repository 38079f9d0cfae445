//! Requests that Go's `crypto/x509`, which kubelet uses, has written, and bytes that are no requests.

use std::net::IpAddr;

use proptest::prelude::*;

use super::{NAMES_MAX, REQUEST_BYTES_MAX, parse};
use crate::certificate::refusal::Rule;
use crate::certificate::rules::tests::{Wanted, pem};

macro_rules! data {
    ($name:literal) => {
        include_str!(concat!("../../../tests/data/", $name, ".csr"))
    };
}

fn check(text: &str, rule: Rule, expected: &str) {
    let refusal = parse(text.as_bytes()).unwrap_err();
    assert_eq!(refusal.rule, rule, "{refusal}");
    assert!(refusal.message.contains(expected), "{refusal}");
}

#[test]
fn the_requests_of_a_kubelet_are_read() {
    for text in [data!("p256"), data!("p384"), data!("rsa-2048")] {
        let csr = parse(text.as_bytes()).unwrap();
        assert_eq!(csr.organization, "system:nodes");
        assert_eq!(csr.common_name, "system:node:node-1");
        assert_eq!(csr.names, ["node-1"]);
        let addresses: [IpAddr; 2] = ["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        assert_eq!(csr.addresses, addresses);
    }
}

#[test]
fn keys_that_kubelet_does_not_make_are_refused() {
    check(data!("rsa-1024"), Rule::Key, "the RSA key has 1024 bits; at least 2048 are needed");
    check(data!("p521"), Rule::Key, "ECDSA with P-256 or P-384 and RSA are allowed");
    check(data!("ed25519"), Rule::Key, "the key is of the kind 1.3.101.112");
}

#[test]
fn names_of_other_kinds_are_refused() {
    check(data!("no-names"), Rule::Names, "has no alternative names");
    check(data!("email"), Rule::Names, "an alternative name is an e-mail address");
    check(data!("uri"), Rule::Names, "an alternative name is a URI");
}

#[test]
fn other_subjects_and_extensions_are_refused() {
    check(data!("two-organizations"), Rule::Subject, "the subject has an attribute twice");
    check(data!("unit"), Rule::Subject, "the subject has the attribute 2.5.4.11");
    check(data!("no-subject"), Rule::Subject, "the subject has no organization");
    check(data!("authority"), Rule::Form, "asks for the extension 2.5.29.19");
}

#[test]
fn more_names_than_a_node_has_are_refused() {
    let names = |count| -> Vec<String> { (0..count).map(|index| format!("n{index}")).collect() };
    let wanted = |count| Wanted { names: names(count), ..Wanted::default() };
    assert_eq!(parse(&pem(&wanted(NAMES_MAX))).unwrap().names.len(), NAMES_MAX);
    let text = String::from_utf8(pem(&wanted(NAMES_MAX + 1))).unwrap();
    check(&text, Rule::Names, "has 65 alternative names; 1 to 64 are allowed");
}

#[test]
fn a_signature_of_another_request_is_refused() {
    // Both requests have the same key, and each has a valid signature.
    let (one, other) = (decode(data!("p256")), decode(data!("no-names")));
    let signature = &other[other.len() - 71..];
    let mut forged = one.clone();
    let end = forged.len();
    forged[end - 40..].copy_from_slice(&signature[signature.len() - 40..]);
    check(&encode(&forged), Rule::Signature, "is not signed with its own key");
}

#[test]
fn text_that_is_not_one_request_is_refused() {
    let valid = data!("p256");
    check("", Rule::Form, "does not begin with");
    check(&format!("x{valid}"), Rule::Form, "does not begin with");
    check(&format!("{valid}{valid}"), Rule::Form, "not a PEM block");
    check(&format!("{valid}more"), Rule::Form, "not a PEM block");
    check(&valid.replace("REQUEST", "REQUESTS"), Rule::Form, "does not begin with");
    check(&valid.replace("MII", "AII"), Rule::Form, "not a PKCS #10 certificate request");
    check(&encode(&decode(valid)[..200]), Rule::Form, "not a PKCS #10 certificate request");
    let mut longer = decode(valid);
    longer.push(0);
    check(&encode(&longer), Rule::Form, "not a PKCS #10 certificate request");
    check(&" ".repeat(REQUEST_BYTES_MAX + 1), Rule::Form, "at most 32768 are read");
}

fn decode(text: &str) -> Vec<u8> {
    x509_cert::der::pem::decode_vec(text.as_bytes()).unwrap().1
}

fn encode(der: &[u8]) -> String {
    use x509_cert::der::pem::{LineEnding, encode_string};
    encode_string("CERTIFICATE REQUEST", LineEnding::LF, der).unwrap()
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
        prop_assert!(parse(&bytes).is_err());
        prop_assert!(parse(encode(&bytes).as_bytes()).is_err());
    }

    #[test]
    fn a_changed_byte_is_always_noticed(at in 0_usize..300, to: u8) {
        let mut der = decode(data!("p256"));
        let at = at % der.len();
        prop_assume!(der[at] != to);
        der[at] = to;
        prop_assert!(parse(encode(&der).as_bytes()).is_err());
    }
}
