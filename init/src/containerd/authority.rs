//! Certificate authorities of the node's owner: the credentials `kiln.ca.NAME`.

use kiln_contract::path::OWN_AUTHORITIES;
use kiln_contract::setting::CA;

use crate::machine::pem;

/// An authority that the node trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The `NAME` in `kiln.ca.NAME`.
    pub name: String,
    /// The certificates in PEM, without any other text.
    pub pem: String,
}

impl Authority {
    /// The file with the certificates.
    #[must_use]
    pub fn file(&self) -> String {
        format!("{OWN_AUTHORITIES}/{}.crt", self.name)
    }
}

/// Returns the authorities among credentials, given by name and value, and a line for each invalid
/// one.
pub fn of_credentials<'a>(
    credentials: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> (Vec<Authority>, Vec<String>) {
    let (mut authorities, mut lines) = (Vec::new(), Vec::new());
    for (credential, value) in credentials {
        let Some(name) = credential.strip_prefix(CA.name) else { continue };
        match parse(value) {
            Ok(pem) => authorities.push(Authority { name: name.into(), pem }),
            Err(cause) => lines.push(format!(
                "credential {credential}: {cause}, ignored; write it as certificates in PEM, \
                 which begin with -----BEGIN CERTIFICATE-----"
            )),
        }
    }
    (authorities, lines)
}

fn parse(value: &[u8]) -> Result<String, &'static str> {
    let text = std::str::from_utf8(value).map_err(|_| "is not text")?;
    pem::certificates(text).map(|certificates| pem::text(&certificates))
}

/// Appends the authorities to the image's bundle.
#[must_use]
pub fn bundle(image: &str, authorities: &[Authority]) -> String {
    let mut bundle = image.to_owned();
    for Authority { name, pem } in authorities {
        bundle.extend(["\n# credential ", CA.name, name, "\n", pem]);
    }
    bundle
}

#[cfg(test)]
mod tests {
    use super::{bundle, of_credentials};
    use crate::machine::pem;

    fn der() -> Vec<u8> {
        vec![0x30, 2, 5, 0]
    }

    #[test]
    fn a_valid_authority_is_trusted_and_an_invalid_one_is_one_line() {
        let good = format!("comment\n{}", pem::text(&[der(), der()]));
        let list: [(&str, &[u8]); 4] = [
            ("kiln.ca.good", good.as_bytes()),
            ("kiln.ca.key", b"-----BEGIN PRIVATE KEY-----"),
            ("kiln.ca.bytes", b"\xff"),
            ("kiln.node", b"hostname = \"a\""),
        ];
        let (authorities, lines) = of_credentials(list.into_iter());
        assert_eq!(authorities.len(), 1);
        assert_eq!(authorities[0].pem, pem::text(&[der(), der()]));
        assert_eq!(authorities[0].file(), "/etc/ssl/kiln/good.crt");
        assert!(lines[0].starts_with("credential kiln.ca.key: has a private key, ignored; "));
        assert!(lines[1].starts_with("credential kiln.ca.bytes: is not text, ignored; "));
        let all = bundle("image\n", &authorities);
        assert!(
            all.starts_with("image\n\n# credential kiln.ca.good\n-----BEGIN CERTIFICATE-----\n")
        );
    }
}
