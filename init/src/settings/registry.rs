//! `registries`: mirrors, own authorities and passwords of registries.

use kiln_contract::setting::CA;

use super::read::{Key, Problems, Value};

/// The name that stands for every registry without an own entry.
pub const ANY: &str = "*";

/// A registry, by the name in images' names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registry {
    /// The host, with a port if the images' names have one, or [`ANY`].
    pub host: String,
    /// The addresses that are asked instead, in this order, before the registry itself.
    pub mirrors: Vec<String>,
    /// The `NAME` of the credential `kiln.ca.NAME` that signs the certificates of the mirrors, or of
    /// the registry if there are no mirrors.
    pub ca: Option<String>,
    /// The user.
    pub username: Option<String>,
    /// The user's password.
    pub password: Option<String>,
}

const KEYS: [Key<Registry>; 4] = [
    ("mirrors", mirrors),
    ("ca", ca),
    ("username", |registry, value, problems| registry.username = value.text(problems)),
    ("password", |registry, value, problems| registry.password = value.text(problems)),
];

/// Reads `registries`.
pub fn read(value: &Value<'_>, problems: &mut Problems) -> Vec<Registry> {
    let mut registries = Vec::new();
    for entry in value.entries(problems) {
        if !is_host(&entry.name) {
            let next = "write it as in images' names, such as \"registry.example:5000\"";
            entry.refuse(problems, "not the host of a registry, ignored", next);
            continue;
        }
        let registry: Registry = entry.fields(&KEYS, problems);
        let mut registry = Registry { host: entry.name.clone(), ..registry };
        if registry.username.is_some() != registry.password.is_some() {
            let next = "give both username and password, or none";
            entry.refuse(problems, "one of username and password is missing, ignored", next);
            (registry.username, registry.password) = (None, None);
        }
        registries.push(registry);
    }
    registries
}

fn mirrors(registry: &mut Registry, value: &Value<'_>, problems: &mut Problems) {
    registry.mirrors =
        value.parsed(problems, "write it as \"https://mirror.example:5000\"", |text| {
            // The address is not shown, because it may contain a password.
            is_url(text)
                .then(|| text.to_owned())
                .ok_or_else(|| "not an http or https address".into())
        });
}

fn ca(registry: &mut Registry, value: &Value<'_>, problems: &mut Problems) {
    let Some(text) = value.text(problems) else { return };
    if crate::machine::credential::is_name(&text) {
        registry.ca = Some(text);
    } else {
        let next = format!("write the NAME of a credential {}NAME", CA.name);
        value.refuse(problems, "not the name of a credential, ignored", next);
    }
}

/// True for the host of a registry with an optional port, and for [`ANY`].
fn is_host(text: &str) -> bool {
    let (host, port) =
        text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    let is_name =
        host.bytes().all(allowed) && host.starts_with(|c: char| c.is_ascii_alphanumeric());
    text == ANY || (is_name && port.is_none_or(|port| port.parse::<u16>().is_ok()))
}

/// True for an address of http or https without blanks and quotes.
#[must_use]
pub fn is_url(text: &str) -> bool {
    let rest = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let graphic = |byte: u8| byte.is_ascii_graphic() && !b"\"'\\<>`".contains(&byte);
    rest.is_some_and(|rest| rest.starts_with(|c: char| c != '/') && rest.bytes().all(graphic))
}

#[cfg(test)]
mod tests {
    use super::{is_host, is_url};

    #[test]
    fn hosts_are_those_of_images_names() {
        for host in ["docker.io", "registry.example:5000", "10.0.2.2:5000", "*"] {
            assert!(is_host(host), "{host}");
        }
        for host in ["", "..", "../a", "a/b", "a:b", "a:99999", ".a", "https://a"] {
            assert!(!is_host(host), "{host}");
        }
    }

    #[test]
    fn addresses_have_a_scheme_and_a_host() {
        assert!(is_url("https://a:5000/v2/x") && is_url("http://[::1]:5000"));
        for text in ["a", "ftp://a", "https://", "https:///a", "https://a b", "https://a\"b"] {
            assert!(!is_url(text), "{text}");
        }
    }
}
