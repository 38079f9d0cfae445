//! A registry's file for containerd: `certs.d/HOST/hosts.toml` (containerd's docs/hosts.md).

use std::fmt::Write;

use super::authority::Authority;
use crate::machine::base64;
use crate::settings::registry::{ANY, Registry};

/// The first line of each file, by which a later run recognises its own files.
pub const HEADER: &str = "# Written from the credential kiln.node.\n";

/// containerd's folder for registries without one of their own.
const DEFAULT: &str = "_default";

/// The file of one registry.
#[derive(Debug, PartialEq, Eq)]
pub struct Hosts {
    /// The folder below `certs.d`.
    pub folder: String,
    /// The text.
    pub text: String,
}

/// Returns the files of all registries, and a line for each authority that is missing.
#[must_use]
pub fn hosts(registries: &[Registry], authorities: &[Authority]) -> (Vec<Hosts>, Vec<String>) {
    let mut lines = Vec::new();
    let hosts = registries.iter().map(|registry| {
        let folder = if registry.host == ANY { DEFAULT } else { &registry.host };
        let ca = registry.ca.as_ref().and_then(|name| {
            let found = authorities.iter().find(|authority| authority.name == *name);
            if found.is_none() {
                let host = &registry.host;
                lines.push(format!(
                    "kiln.node: registries.\"{host}\".ca: there is no valid credential \
                     kiln.ca.{name}, ignored; add it, or remove the key"
                ));
            }
            found.map(Authority::file)
        });
        Hosts { folder: folder.into(), text: text(registry, ca.as_deref()) }
    });
    (hosts.collect(), lines)
}

/// Returns the text. Authority and password are those of the mirrors, or of the registry itself
/// without mirrors, so that a mirror never gets the registry's password.
fn text(registry: &Registry, ca: Option<&str>) -> String {
    let mut text = String::from(HEADER);
    if registry.mirrors.is_empty() {
        access(&mut text, "", registry, ca);
    }
    for mirror in &registry.mirrors {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(text, "[host.\"{mirror}\"]\ncapabilities = [\"pull\", \"resolve\"]");
        // containerd appends `/v2` to an address. A proxy for several registries has the name of
        // one after that.
        if mirror.splitn(4, '/').nth(3).is_some_and(|path| path.starts_with("v2/")) {
            text.push_str("override_path = true\n");
        }
        access(&mut text, &format!("host.\"{mirror}\"."), registry, ca);
    }
    text
}

/// Appends the authority and the password of one server.
fn access(text: &mut String, table: &str, registry: &Registry, ca: Option<&str>) {
    if let Some(ca) = ca {
        let _ = writeln!(text, "ca = \"{ca}\"");
    }
    if let (Some(username), Some(password)) = (&registry.username, &registry.password) {
        let basic = base64::encode(format!("{username}:{password}").as_bytes());
        let _ = writeln!(text, "[{table}header]\nAuthorization = \"Basic {basic}\"");
    }
}

#[cfg(test)]
mod tests {
    use super::{HEADER, Hosts, hosts};
    use crate::containerd::authority::Authority;
    use crate::settings;

    fn check(node: &str, folder: &str, expected: &str) {
        let (settings, problems) = settings::parse(node.as_bytes());
        assert_eq!(problems.count(), 0, "{node}");
        let own = Authority { name: "own".into(), pem: String::new() };
        let (found, lines) = hosts(&settings.registries, &[own]);
        assert!(lines.is_empty(), "{lines:?}");
        assert_eq!(found, [Hosts { folder: folder.into(), text: format!("{HEADER}{expected}") }]);
    }

    #[test]
    fn a_mirror_is_asked_first_with_its_own_authority_and_password() {
        check(
            "[registries.\"docker.io\"]\nmirrors = [\"https://a:5000\", \"http://b/v2/hub\"]\n\
             ca = \"own\"\nusername = \"user\"\npassword = \"pass\"",
            "docker.io",
            "[host.\"https://a:5000\"]\ncapabilities = [\"pull\", \"resolve\"]\n\
             ca = \"/etc/ssl/kiln/own.crt\"\n\
             [host.\"https://a:5000\".header]\nAuthorization = \"Basic dXNlcjpwYXNz\"\n\
             [host.\"http://b/v2/hub\"]\ncapabilities = [\"pull\", \"resolve\"]\noverride_path = true\n\
             ca = \"/etc/ssl/kiln/own.crt\"\n\
             [host.\"http://b/v2/hub\".header]\nAuthorization = \"Basic dXNlcjpwYXNz\"\n",
        );
    }

    #[test]
    fn without_a_mirror_they_are_the_registrys() {
        check(
            "[registries.\"10.0.2.2:5000\"]\nca = \"own\"",
            "10.0.2.2:5000",
            "ca = \"/etc/ssl/kiln/own.crt\"\n",
        );
        check(
            "[registries.\"r.example\"]\nusername = \"u\"\npassword = \"p\"",
            "r.example",
            "[header]\nAuthorization = \"Basic dTpw\"\n",
        );
        check(
            "[registries.\"*\"]\nmirrors = [\"https://m\"]",
            "_default",
            "[host.\"https://m\"]\ncapabilities = [\"pull\", \"resolve\"]\n",
        );
    }

    #[test]
    fn a_missing_authority_is_one_line_and_the_rest_applies() {
        let node = "[registries.\"r.example\"]\nca = \"other\"\nmirrors = [\"https://m\"]";
        let (found, lines) = hosts(&settings::parse(node.as_bytes()).0.registries, &[]);
        assert!(found[0].text.contains("https://m") && !found[0].text.contains("ca ="));
        assert_eq!(
            lines,
            [
                "kiln.node: registries.\"r.example\".ca: there is no valid credential kiln.ca.other, \
              ignored; add it, or remove the key"
            ]
        );
    }
}
