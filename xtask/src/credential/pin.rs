//! Certificate authorities, and the pins of their keys.
//!
//! A pin is the SHA-256 of a certificate's `SubjectPublicKeyInfo` in DER (RFC 7469 section 2.4), in
//! the form that `kubeadm` prints: `sha256:` and 64 hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, ensure};
use x509_cert::Certificate;
use x509_cert::der::pem::LineEnding;
use x509_cert::der::{Encode, EncodePem};

use crate::digest::Digest;

/// The most certificates in one file of authorities.
const CERTIFICATES_MAX: usize = 64;

/// The pin of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin(Digest);

/// One or more certificate authorities.
#[derive(Debug, Clone)]
pub struct Authorities(Vec<Certificate>);

impl FromStr for Pin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digest = text.strip_prefix("sha256:").and_then(|hex| {
            // Digests are written in lower case here, and in either case by other tools.
            hex.to_ascii_lowercase().parse().ok()
        });
        digest.map(Self).with_context(|| {
            format!(
                "{text:?} is not the hash of an authority's key; the form is `sha256:` and 64 \
                 hexadecimal digits, as `kubeadm token create --print-join-command` prints it"
            )
        })
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "sha256:{}", self.0)
    }
}

impl Authorities {
    /// Parses the certificates of a PEM text. Text before a block is dropped.
    pub fn parse(pem: &[u8]) -> Result<Self> {
        let certificates = Certificate::load_pem_chain(pem);
        let certificates = certificates.map_err(|error| Error::msg(error.to_string()));
        let certificates =
            certificates.context("cannot parse the authority's certificate as PEM")?;
        ensure!(!certificates.is_empty(), "there is no certificate in PEM");
        ensure!(
            certificates.len() <= CERTIFICATES_MAX,
            "there are more than {CERTIFICATES_MAX} certificates"
        );
        Ok(Self(certificates))
    }

    /// The pins, in the order of the certificates.
    pub fn pins(&self) -> Result<Vec<Pin>> {
        let pin = |certificate: &Certificate| {
            let key = certificate.tbs_certificate().subject_public_key_info().to_der();
            let key = key.map_err(|error| Error::msg(error.to_string()));
            Ok(Pin(Digest::of_bytes(&key.context("cannot encode a key")?)))
        };
        self.0.iter().map(pin).collect()
    }

    /// The certificates in DER.
    pub fn der(&self) -> Result<Vec<Vec<u8>>> {
        let der = |certificate: &Certificate| certificate.to_der();
        let all: std::result::Result<_, _> = self.0.iter().map(der).collect();
        all.map_err(|error| Error::msg(error.to_string())).context("cannot encode a certificate")
    }

    /// The certificates in PEM, and nothing else.
    pub fn pem(&self) -> Result<String> {
        let pem = |certificate: &Certificate| certificate.to_pem(LineEnding::LF);
        let all: std::result::Result<String, _> = self.0.iter().map(pem).collect();
        all.map_err(|error| Error::msg(error.to_string())).context("cannot encode a certificate")
    }

    /// Succeeds if one of the authorities has one of the keys, as with `kubeadm`.
    pub fn check(&self, allowed: &[Pin]) -> Result<()> {
        let found = self.pins()?;
        let words =
            |pins: &[Pin]| pins.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        ensure!(
            found.iter().any(|pin| allowed.contains(pin)),
            "the cluster's authority has the key {}, not {}; someone may be intercepting the connection, \
             or the hash is that of another cluster",
            words(&found),
            words(allowed)
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Authorities, Pin};

    #[test]
    fn a_pin_of_another_form_is_refused() {
        let digits = "ab".repeat(32);
        assert!(format!("sha256:{digits}").parse::<Pin>().is_ok());
        assert!(format!("sha256:{}", digits.to_uppercase()).parse::<Pin>().is_ok());
        for text in [
            String::new(),
            digits.clone(),
            format!("sha1:{digits}"),
            format!("sha256:{digits}ab"),
            format!("sha256:{}", &digits[1..]),
            format!("sha256:{}", digits.replace('a', "g")),
        ] {
            let error = format!("{:#}", text.parse::<Pin>().unwrap_err());
            assert!(error.contains("the form is `sha256:` and 64 hexadecimal digits"), "{error}");
        }
    }

    #[test]
    fn text_without_a_certificate_is_no_authority() {
        for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            assert!(Authorities::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
