//! A certificate request (PKCS #10, RFC 2986) in PEM, as kubelet writes it.
//!
//! The parser accepts exactly the form that kubelet writes and refuses everything else, so that this
//! program and the signer, which has another parser, cannot read two meanings from the same bytes.
//! It proves the signature, so a parsed request was made by the owner of its key.

use std::net::IpAddr;

use ring::signature as sign;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::{ObjectIdentifier, UintRef};
use x509_cert::der::{Decode as _, Encode as _, Reader as _, SliceReader, Tag, Tagged as _, pem};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::{GeneralName, GeneralNames};
use x509_cert::name::Name;
use x509_cert::request::{CertReq, ExtensionReq};
use x509_cert::spki::SubjectPublicKeyInfoOwned;

use super::refusal::{Refusal, Rule};

/// The most bytes of a request in PEM; kubelet's have less than 1,000, and 64 long names fit too.
pub const REQUEST_BYTES_MAX: usize = 32 * 1024;

/// The most alternative names. kubelet names each address of the node once.
pub const NAMES_MAX: usize = 64;

/// The least size of an RSA key in bits (NIST SP 800-57 part 1, table 2).
const RSA_BITS_MIN: usize = 2048;

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE REQUEST-----";
const LABEL: &str = "CERTIFICATE REQUEST";

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

/// RFC 5280 appendix A.1.
const ORGANIZATION: ObjectIdentifier = oid("2.5.4.10");
const COMMON_NAME: ObjectIdentifier = oid("2.5.4.3");
/// PKCS #9, RFC 2985 section 5.4.2.
const EXTENSION_REQUEST: ObjectIdentifier = oid("1.2.840.113549.1.9.14");
/// RFC 5280 section 4.2.1.6.
const ALTERNATIVE_NAME: ObjectIdentifier = oid("2.5.29.17");
/// RFC 5480 section 2.1.1.
const EC_KEY: ObjectIdentifier = oid("1.2.840.10045.2.1");
const P256: ObjectIdentifier = oid("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = oid("1.3.132.0.34");
/// RFC 8017 appendix A.1.
const RSA_KEY: ObjectIdentifier = oid("1.2.840.113549.1.1.1");
/// RFC 5758 section 3.2.
const ECDSA_SHA256: ObjectIdentifier = oid("1.2.840.10045.4.3.2");
const ECDSA_SHA384: ObjectIdentifier = oid("1.2.840.10045.4.3.3");
/// RFC 8017 appendix A.2.4.
const RSA_SHA256: ObjectIdentifier = oid("1.2.840.113549.1.1.11");
const RSA_SHA384: ObjectIdentifier = oid("1.2.840.113549.1.1.12");
const RSA_SHA512: ObjectIdentifier = oid("1.2.840.113549.1.1.13");

/// A request whose signature is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csr {
    /// The subject's organization.
    pub organization: String,
    /// The subject's common name.
    pub common_name: String,
    /// The alternative names that are DNS names, as they are written.
    pub names: Vec<String>,
    /// The alternative names that are IP addresses; an IPv4 address is never written as IPv6.
    pub addresses: Vec<IpAddr>,
}

/// Parses a request.
pub fn parse(bytes: &[u8]) -> Result<Csr, Refusal> {
    let der = unwrap_pem(bytes)?;
    let request = CertReq::from_der(&der).map_err(|error| {
        form(format!("the request is not a PKCS #10 certificate request: {error}"))
    })?;
    let (organization, common_name) = subject(&request.info.subject)?;
    let (names, addresses) = alternative_names(&request)?;
    verify(&request)?;
    Ok(Csr { organization, common_name, names, addresses })
}

fn form(message: impl Into<String>) -> Refusal {
    Refusal::new(Rule::Form, message)
}

/// Returns the only block of the text; other text before or after it is refused.
fn unwrap_pem(bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    if bytes.len() > REQUEST_BYTES_MAX {
        let size = bytes.len();
        return Err(form(format!(
            "the request has {size} bytes; at most {REQUEST_BYTES_MAX} are read"
        )));
    }
    let text = bytes.trim_ascii();
    if !text.starts_with(BEGIN) {
        return Err(form("the request does not begin with `-----BEGIN CERTIFICATE REQUEST-----`"));
    }
    let (label, der) = pem::decode_vec(text)
        .map_err(|error| form(format!("the request is not a PEM block: {error}")))?;
    if label != LABEL {
        return Err(form(format!("the request is a PEM block of the kind `{label}`")));
    }
    Ok(der)
}

/// Returns organization and common name; a subject with more or other attributes is refused.
fn subject(name: &Name) -> Result<(String, String), Refusal> {
    let (mut organization, mut common_name) = (None, None);
    for part in name.as_ref().as_ref() {
        for attribute in part.as_ref().iter() {
            let place = match attribute.oid {
                ORGANIZATION => &mut organization,
                COMMON_NAME => &mut common_name,
                other => return Err(wrong_subject(&format!("has the attribute {other}"))),
            };
            if place.replace(text(attribute)?).is_some() {
                return Err(wrong_subject("has an attribute twice"));
            }
        }
    }
    let missing = |name| wrong_subject(&format!("has no {name}"));
    Ok((
        organization.ok_or_else(|| missing("organization"))?,
        common_name.ok_or_else(|| missing("common name"))?,
    ))
}

fn wrong_subject(fault: &str) -> Refusal {
    Refusal::new(
        Rule::Subject,
        format!("the subject {fault}; a kubelet's has one organization and one common name"),
    )
}

/// Returns an attribute's text, which Go writes as one of these two types.
fn text(attribute: &AttributeTypeAndValue) -> Result<String, Refusal> {
    let value = &attribute.value;
    let known = matches!(value.tag(), Tag::Utf8String | Tag::PrintableString);
    let text = known.then(|| std::str::from_utf8(value.value()).ok()).flatten();
    text.map(str::to_owned)
        .ok_or_else(|| wrong_subject("has a value that is neither UTF-8 nor printable"))
}

/// Returns the DNS names and addresses that the request asks for.
fn alternative_names(request: &CertReq) -> Result<(Vec<String>, Vec<IpAddr>), Refusal> {
    let extension = only_extension(request)?;
    let names = GeneralNames::from_der(extension.extn_value.as_bytes()).map_err(|error| {
        form(format!("the request's alternative names cannot be parsed: {error}"))
    })?;
    if names.is_empty() || names.len() > NAMES_MAX {
        let count = names.len();
        return Err(Refusal::new(
            Rule::Names,
            format!("the request has {count} alternative names; 1 to {NAMES_MAX} are allowed"),
        ));
    }
    let (mut dns, mut addresses) = (Vec::new(), Vec::new());
    for name in &names {
        match name {
            GeneralName::DnsName(name) => dns.push(name.as_str().to_owned()),
            GeneralName::IpAddress(bytes) => addresses.push(address(bytes.as_bytes())?),
            other => return Err(not_allowed(other)),
        }
    }
    Ok((dns, addresses))
}

fn not_allowed(name: &GeneralName) -> Refusal {
    let kind = match name {
        GeneralName::Rfc822Name(_) => "an e-mail address",
        GeneralName::UniformResourceIdentifier(_) => "a URI",
        _ => "of a rare kind",
    };
    let message =
        format!("an alternative name is {kind}; only DNS names and IP addresses are allowed");
    Refusal::new(Rule::Names, message)
}

fn address(bytes: &[u8]) -> Result<IpAddr, Refusal> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let sixteen = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    let address = four.or_else(|_| sixteen()).map_err(|_| {
        form(format!("an IP address in the request has {} bytes; 4 or 16 are valid", bytes.len()))
    })?;
    Ok(address.to_canonical())
}

/// Returns the alternative names, the only extension that kubelet asks for.
fn only_extension(request: &CertReq) -> Result<Extension, Refusal> {
    let none = || {
        let message = "the request has no alternative names; at least one DNS name or IP address \
                       is needed";
        Refusal::new(Rule::Names, message)
    };
    let mut extensions = Vec::new();
    for attribute in request.info.attributes.iter() {
        if attribute.oid != EXTENSION_REQUEST || attribute.values.len() != 1 {
            return Err(form(format!("the request has the attribute {}", attribute.oid)));
        }
        for value in attribute.values.iter() {
            let ExtensionReq(found) = value.decode_as().map_err(|error| {
                form(format!("the request's extensions cannot be parsed: {error}"))
            })?;
            extensions.extend(found);
        }
    }
    if let Some(other) = extensions.iter().find(|it| it.extn_id != ALTERNATIVE_NAME) {
        return Err(form(format!(
            "the request asks for the extension {}; a kubelet asks for alternative names only",
            other.extn_id
        )));
    }
    if extensions.len() > 1 {
        return Err(form("the request has two lists of alternative names"));
    }
    extensions.pop().ok_or_else(none)
}

/// Checks the key and that the request is signed with it.
fn verify(request: &CertReq) -> Result<(), Refusal> {
    let key = &request.info.public_key;
    let bits = key.subject_public_key.as_bytes();
    let (Some(bits), Some(signature)) = (bits, request.signature.as_bytes()) else {
        return Err(form("the request's key or signature is not a whole number of bytes"));
    };
    let algorithm = algorithm(key, bits, request.algorithm.oid)?;
    // DER has one encoding of each value, so these are the bytes that were signed.
    let signed = request.info.to_der();
    let signed = signed.map_err(|error| form(format!("the request cannot be encoded: {error}")))?;
    let key = sign::UnparsedPublicKey::new(algorithm, bits);
    key.verify(&signed, signature).map_err(|_| {
        Refusal::new(Rule::Signature, "the request is not signed with its own key".to_owned())
    })
}

/// Returns the algorithm for a key and a signature, if kubelet could have made them.
fn algorithm(
    key: &SubjectPublicKeyInfoOwned,
    bits: &[u8],
    signature: ObjectIdentifier,
) -> Result<&'static dyn sign::VerificationAlgorithm, Refusal> {
    let curve = || key.algorithm.parameters.as_ref().and_then(|any| any.decode_as().ok());
    let kind = key.algorithm.oid;
    if kind == RSA_KEY {
        let size = rsa_bits(bits)?;
        if size < RSA_BITS_MIN {
            return Err(Refusal::new(
                Rule::Key,
                format!("the RSA key has {size} bits; at least {RSA_BITS_MIN} are needed"),
            ));
        }
    }
    let algorithm: &'static dyn sign::VerificationAlgorithm = match (kind, curve(), signature) {
        (EC_KEY, Some(P256), ECDSA_SHA256) => &sign::ECDSA_P256_SHA256_ASN1,
        (EC_KEY, Some(P256), ECDSA_SHA384) => &sign::ECDSA_P256_SHA384_ASN1,
        (EC_KEY, Some(P384), ECDSA_SHA256) => &sign::ECDSA_P384_SHA256_ASN1,
        (EC_KEY, Some(P384), ECDSA_SHA384) => &sign::ECDSA_P384_SHA384_ASN1,
        (RSA_KEY, _, RSA_SHA256) => &sign::RSA_PKCS1_2048_8192_SHA256,
        (RSA_KEY, _, RSA_SHA384) => &sign::RSA_PKCS1_2048_8192_SHA384,
        (RSA_KEY, _, RSA_SHA512) => &sign::RSA_PKCS1_2048_8192_SHA512,
        _ => {
            return Err(Refusal::new(
                Rule::Key,
                format!(
                    "the key is of the kind {kind} and signed with {signature}; ECDSA with P-256 \
                     or P-384 and RSA are allowed"
                ),
            ));
        }
    };
    Ok(algorithm)
}

/// Returns the size of an RSA key's modulus (RFC 8017 appendix A.1.1).
fn rsa_bits(key: &[u8]) -> Result<usize, Refusal> {
    let modulus = || -> x509_cert::der::Result<usize> {
        let mut reader = SliceReader::new(key)?;
        let bits = reader.sequence(|key| {
            let modulus = UintRef::decode(key)?;
            UintRef::decode(key)?;
            let bytes = modulus.as_bytes();
            let unused = bytes.first().map_or(0, |byte| byte.leading_zeros() as usize);
            x509_cert::der::Result::Ok((bytes.len() * 8).saturating_sub(unused))
        })?;
        reader.finish()?;
        Ok(bits)
    };
    modulus().map_err(|error| form(format!("the RSA key cannot be parsed: {error}")))
}

#[cfg(test)]
mod tests;
