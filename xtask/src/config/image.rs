//! `[output.image]`: the container image that a package's files go into.

use std::collections::BTreeMap;

use anyhow::Result;

use super::raw;
use crate::text::Text;

/// The mode bits of a folder: permissions, set-id bits and the sticky bit.
const MODE_MAX: u16 = 0o7777;

/// The longest tag (OCI distribution specification, "Pulling manifests").
const TAG_BYTES_MAX: usize = 128;

/// A container image, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The whole name with registry and tag, by which manifests refer to it.
    pub name: String,
    /// The program that the container executes, and its first arguments.
    pub entrypoint: Vec<String>,
    /// `UID:GID`.
    pub user: String,
    /// The Debian package that the image starts with, including all its dependencies.
    pub base: Option<String>,
    /// Staged name, or path in the package's folder → path in the image.
    pub files: BTreeMap<String, String>,
    /// Path of an empty folder in the image → its mode.
    pub folders: BTreeMap<String, u16>,
    /// Folder in the package's folder → path in the image of a pack of it.
    pub packs: BTreeMap<String, String>,
}

impl Image {
    pub(super) fn parse(text: &Text, package: &str, raw: raw::Image) -> Result<Self> {
        let name = match raw.name {
            Some(name) if is_name(name.get_ref()) => name.into_inner(),
            Some(name) => {
                let cause = "an image's name has a registry, a path and a tag, like `registry.example/team/app:1.2`";
                return Err(text.error(&name, cause));
            }
            None => format!("{}/{package}:latest", kiln_contract::path::IMAGE_REGISTRY),
        };
        if !is_user(raw.user.get_ref()) {
            return Err(text.error(&raw.user, "a user is `UID:GID` in numbers, like `65532:65532`"));
        }
        let mut folders = BTreeMap::new();
        for (path, mode) in raw.folders {
            let bits = u16::from_str_radix(mode.get_ref(), 8).ok().filter(|bits| *bits <= MODE_MAX);
            let cause = "a folder's mode is an octal number in quotes, like \"0755\" or \"1777\"";
            let bits = bits.ok_or_else(|| text.error(&mode, cause))?;
            folders.insert(path, bits);
        }
        Ok(Self {
            name,
            entrypoint: raw.entrypoint,
            user: raw.user.into_inner(),
            base: raw.base.map(toml::Spanned::into_inner),
            files: raw.files,
            folders,
            packs: raw.packs,
        })
    }
}

/// `REGISTRY/PATH:TAG`. containerd treats a first part without a dot, a port or `localhost` as a
/// folder of Docker's registry, so a name without a registry would never be found.
fn is_name(name: &str) -> bool {
    let Some((registry, rest)) = name.split_once('/') else { return false };
    let Some((path, tag)) = rest.rsplit_once(':') else { return false };
    is_registry(registry) && path.split('/').all(is_path_part) && is_tag(tag)
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = registry.split_once(':').unwrap_or((registry, "0"));
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    (host == "localhost" || registry.contains(['.', ':']))
        && host.split('.').all(|label| !label.is_empty())
        && host.chars().all(good)
        && port.parse::<u16>().is_ok()
}

/// Lower-case letters and digits; between them `.`, `_`, `__` or any number of `-`.
fn is_path_part(part: &str) -> bool {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separators = || part.split(good).filter(|text| !text.is_empty());
    part.starts_with(good)
        && part.ends_with(good)
        && separators()
            .all(|text| matches!(text, "." | "_" | "__") || text.bytes().all(|byte| byte == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.starts_with(word)
        && tag.len() <= TAG_BYTES_MAX
        && tag.chars().all(|c| word(c) || c == '.' || c == '-')
}

fn is_user(user: &str) -> bool {
    let Some((uid, gid)) = user.split_once(':') else { return false };
    uid.parse::<u32>().is_ok() && gid.parse::<u32>().is_ok()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::tests::{check, files, load};
    use super::*;

    const FILE: &str = "/r/pkgs/page/pkg.toml";

    #[test]
    fn a_bad_value_is_named_with_a_good_one() {
        check(
            FILE,
            "\"1:1\"",
            "\"root\"",
            expect![
                "/r/pkgs/page/pkg.toml:7: `user`: a user is `UID:GID` in numbers, like `65532:65532`"
            ],
        );
        check(
            FILE,
            "user =",
            "name = \"page:1\"\nuser =",
            expect![
                "/r/pkgs/page/pkg.toml:7: `name`: an image's name has a registry, a path and a tag, like `registry.example/team/app:1.2`"
            ],
        );
        check(
            FILE,
            "user =",
            "folders = { \"/tmp\" = \"1778\" }\nuser =",
            expect![[
                r#"/r/pkgs/page/pkg.toml:7: `folders`: a folder's mode is an octal number in quotes, like "0755" or "1777""#
            ]],
        );
    }

    #[test]
    fn a_base_is_a_debian_package() {
        check(
            FILE,
            "user =",
            "base = \"tool\"\nuser =",
            expect![
                "/r/pkgs/page/pkg.toml: `base`: `tool` is not a Debian package; name one with a [source.deb] table and `closure = true`"
            ],
        );
        check(
            FILE,
            "user =",
            "base = \"curl\"\nuser =",
            expect![
                "/r/pkgs/page/pkg.toml: there is no package `curl`; looked for pkgs/curl/pkg.toml in /r"
            ],
        );
    }

    #[test]
    fn two_packages_cannot_make_one_image() {
        check(
            "/r/pkgs/tool/pkg.toml",
            "[output.rootfs]\n\"tool\" = \"/usr/bin/tool\"",
            "[output.image]\nname = \"kiln.local/page:latest\"\nentrypoint = [\"/tool\"]\nuser = \"1:1\"",
            expect![
                "/r/pkgs/page/pkg.toml: `tool` and `page` both make the image kiln.local/page:latest; set a different `name` in the [output.image] of one of them"
            ],
        );
    }

    #[test]
    fn an_image_has_the_settings_of_its_table() {
        let mut files = files();
        let table = "[output.image]\nname = \"registry.example/page:2\"\nbase = \"kmod\"\nfolders = { \"/tmp\" = \"1777\" }";
        let page = files[FILE].replace("[output.image]", table);
        files.insert(FILE, page);
        let manifest = files["/r/manifests/page.yaml"]
            .replace("kiln.local/page:latest", "registry.example/page:2");
        files.insert("/r/manifests/page.yaml", manifest);
        let config = load(&files, "/r/build.toml").unwrap();
        let image = config.package("page").image().unwrap();
        assert_eq!(image.name, "registry.example/page:2");
        assert_eq!(image.base.as_deref(), Some("kmod"));
        assert_eq!(image.folders, BTreeMap::from([("/tmp".to_owned(), 0o1777)]));
    }

    #[test]
    fn a_name_has_a_registry_a_path_and_a_tag() {
        for good in [
            "kiln.local/dhcp:latest",
            "localhost/a:1",
            "127.0.0.1:5000/team/my-app__x:v1.2-rc_3",
            "registry.example:443/a/b/c:1",
        ] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            "dhcp",
            "dhcp:latest",
            "library/dhcp:latest",
            "kiln.local/dhcp",
            "kiln.local/:1",
            "kiln.local/a//b:1",
            "kiln.local/Team/a:1",
            "kiln.local/a_:1",
            "kiln.local/a___b:1",
            "kiln.local/a:",
            "kiln.local/a:-1",
            "kiln..local/a:1",
            "kiln.local:port/a:1",
            "kiln.local/a@sha256:00",
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
