//! URLs of git repositories.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The most bytes of a URL. Forges allow names of a few hundred.
pub const URL_BYTES_MAX: usize = 2048;

/// A protocol of git.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// HTTP without encryption, for servers inside a cluster.
    Http,
    /// HTTP over TLS.
    Https,
    /// SSH.
    Ssh,
}

impl Scheme {
    /// Returns the port of a URL that names none.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Ssh => 22,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Ssh => "ssh",
        }
    }
}

/// A checked URL of a repository: `https://host/path`, `ssh://user@host/path` or `user@host:path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GitUrl {
    /// The protocol.
    pub scheme: Scheme,
    /// The user, for SSH.
    pub user: Option<String>,
    /// The host: lower case, without a final dot; an IPv6 address has no brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The path. Begins with a slash, except after the colon of the short SSH form.
    pub path: String,
}

/// The reason why a text is not the URL of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadUrl {
    /// The text is longer than [`URL_BYTES_MAX`].
    Long,
    /// The scheme is not `https`, `http` or `ssh`.
    Scheme,
    /// The URL contains a password.
    Password,
    /// The host is not a DNS name or an address.
    Host,
    /// The port is not a number from 1 to 65535.
    Port,
    /// The path is empty, has a segment `..`, a query or a fragment.
    Path,
    /// A character is not printable ASCII, or is a space, a quote or a backslash.
    Character,
    /// The object that names the repository cannot be read.
    Unreadable,
}

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Long => "the URL has more than 2048 bytes",
            Self::Scheme => "the URL does not begin with https://, http:// or ssh://",
            Self::Password => "the URL contains a password; put it into a Secret",
            Self::Host => "the host is not a DNS name or an address",
            Self::Port => "the port is not a number from 1 to 65535",
            Self::Unreadable => "the specification cannot be read; apply the newest manifests/crd",
            Self::Path => "the path is empty or has `..`, `?` or `#`",
            Self::Character => {
                "the URL has a space, a quote, a backslash or a character outside ASCII"
            }
        })
    }
}

impl std::error::Error for BadUrl {}

impl FromStr for GitUrl {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        if text.len() > URL_BYTES_MAX {
            return Err(BadUrl::Long);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\\"'`<>^{|}".contains(&byte)) {
            return Err(BadUrl::Character);
        }
        match text.split_once("://") {
            Some((scheme, rest)) => with_scheme(scheme, rest),
            None => short(text),
        }
    }
}

fn with_scheme(scheme: &str, rest: &str) -> Result<GitUrl, BadUrl> {
    let known = [Scheme::Http, Scheme::Https, Scheme::Ssh];
    let scheme = known.into_iter().find(|known| known.text().eq_ignore_ascii_case(scheme));
    let scheme = scheme.ok_or(BadUrl::Scheme)?;
    let slash = rest.find('/').ok_or(BadUrl::Path)?;
    let (authority, path) = rest.split_at(slash);
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    let (host, port) = place_of(place)?;
    let port = port.map_or(Ok(scheme.default_port()), port_of)?;
    let user = user_of(user)?.filter(|_| scheme == Scheme::Ssh);
    Ok(GitUrl { scheme, user, host: host_of(host)?, port, path: path_of(path)? })
}

/// Parses the short form of SSH, `user@host:path`, as git does: the colon comes before any slash.
fn short(text: &str) -> Result<GitUrl, BadUrl> {
    let (authority, path) = text.split_once(':').ok_or(BadUrl::Scheme)?;
    if authority.contains('/') {
        return Err(BadUrl::Scheme);
    }
    let (user, host) = authority.split_once('@').ok_or(BadUrl::Scheme)?;
    let user = user_of(Some(user))?;
    let (scheme, port) = (Scheme::Ssh, Scheme::Ssh.default_port());
    Ok(GitUrl { scheme, user, host: host_of(host)?, port, path: path_of(path)? })
}

/// Splits a host and a port; an IPv6 address has brackets.
fn place_of(place: &str) -> Result<(&str, Option<&str>), BadUrl> {
    if let Some(rest) = place.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(BadUrl::Host)?;
        host.parse::<Ipv6Addr>().map_err(|_| BadUrl::Host)?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err(BadUrl::Host),
        };
    }
    match place.split_once(':') {
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((place, None)),
    }
}

fn port_of(text: &str) -> Result<u16, BadUrl> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.then(|| text.parse().ok()).flatten();
    port.filter(|port| *port != 0).ok_or(BadUrl::Port)
}

fn user_of(user: Option<&str>) -> Result<Option<String>, BadUrl> {
    let Some(user) = user else { return Ok(None) };
    if user.contains(':') {
        return Err(BadUrl::Password);
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
    let is_user = !user.is_empty() && !user.starts_with('-') && user.bytes().all(fits);
    if is_user { Ok(Some(user.to_owned())) } else { Err(BadUrl::Host) }
}

/// Checks a host. A name whose last label is a number would be read as an IPv4 address by some
/// resolvers (`127.1`, `0x7f000001`), so only the usual form of four numbers is accepted.
fn host_of(host: &str) -> Result<String, BadUrl> {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if host.parse::<Ipv6Addr>().is_ok() || host.parse::<Ipv4Addr>().is_ok() {
        return Ok(host);
    }
    let last = host.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    let is_name = host.len() <= 253 && host.split('.').all(is_label);
    if is_name && !is_number { Ok(host) } else { Err(BadUrl::Host) }
}

fn is_label(label: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && label.bytes().all(fits)
}

fn path_of(path: &str) -> Result<String, BadUrl> {
    let is_empty = path.trim_matches('/').is_empty();
    let climbs = path.split('/').any(|segment| segment == "..");
    // A server's shell must not read the path as an option of `git upload-pack`.
    if is_empty || climbs || path.starts_with('-') || path.contains(['?', '#']) {
        return Err(BadUrl::Path);
    }
    Ok(path.to_owned())
}

impl GitUrl {
    /// Returns a form that is equal for all usual spellings of one repository: scheme, user, case,
    /// `.git` and slashes at the ends make no difference, and a default port is left out.
    ///
    /// The path is folded to lower case, because most forges ignore its case. A webhook for another
    /// repository of the same name then causes a needless fetch, and nothing else.
    #[must_use]
    pub fn identity(&self) -> String {
        let path = self.path.trim_matches('/').to_ascii_lowercase();
        let path = path.strip_suffix(".git").unwrap_or(&path).trim_end_matches('/');
        let path = path.strip_prefix("~/").unwrap_or(path);
        if self.port == self.scheme.default_port() {
            format!("{}/{path}", self.host)
        } else {
            format!("{}:{}/{path}", self.host, self.port)
        }
    }

    /// Returns the host with brackets around an IPv6 address.
    #[must_use]
    pub fn bracketed_host(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

impl fmt::Display for GitUrl {
    /// Writes a full URL, without the user.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.text(), self.bracketed_host())?;
        if self.port != self.scheme.default_port() {
            write!(f, ":{}", self.port)?;
        }
        let slash = if self.path.starts_with('/') { "" } else { "/" };
        write!(f, "{slash}{}", self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::{BadUrl, GitUrl, URL_BYTES_MAX};
    use proptest::prelude::*;

    fn check(text: &str, expected: Result<&str, BadUrl>) {
        let url = text.parse::<GitUrl>();
        assert_eq!(url.map(|url| url.to_string()), expected.map(str::to_owned), "{text}");
    }

    #[test]
    fn the_usual_forms_are_read() {
        check("https://git.example/a/b.git", Ok("https://git.example/a/b.git"));
        check("HTTPS://git.example.org:8443/a", Ok("https://git.example.org:8443/a"));
        check(&format!("https://{}/a", "Git.Example."), Ok("https://git.example/a"));
        check("https://u@git.example.org/a", Ok("https://git.example.org/a"));
        check("ssh://git@git.example.org:2222/a/b", Ok("ssh://git.example.org:2222/a/b"));
        check("git@git.example.org:a/b.git", Ok("ssh://git.example.org/a/b.git"));
        check("https://[2001:db8::1]:444/a", Ok("https://[2001:db8::1]:444/a"));
        check("http://192.0.2.1/a", Ok("http://192.0.2.1/a"));
    }

    #[test]
    fn dangerous_and_ambiguous_forms_are_refused() {
        check("file:///etc/passwd", Err(BadUrl::Scheme));
        check("/etc/passwd", Err(BadUrl::Scheme));
        check("ext::sh -c id", Err(BadUrl::Character));
        check("git://git.example.org/a", Err(BadUrl::Scheme));
        check("https://u:secret@git.example.org/a", Err(BadUrl::Password));
        check("https://git.example.org", Err(BadUrl::Path));
        check("https://git.example.org/", Err(BadUrl::Path));
        check("https://git.example.org/a/../b", Err(BadUrl::Path));
        check("https://git.example.org/a?b", Err(BadUrl::Path));
        check("git@git.example.org:-oProxyCommand=id", Err(BadUrl::Path));
        check("-oProxyCommand@git.example.org:a", Err(BadUrl::Host));
        check("ssh://-oProxyCommand=id/a", Err(BadUrl::Host));
        check("https://127.1/a", Err(BadUrl::Host));
        for number in ["2130706433", "0x7f000001", "0177.0.0.1", "1.2.3"] {
            check(&format!("https://{number}/a"), Err(BadUrl::Host));
        }
        check("https://git.example.org:0/a", Err(BadUrl::Port));
        check("https://git.example.org:+80/a", Err(BadUrl::Port));
        check("https://git.example.org\\@evil.example/a", Err(BadUrl::Character));
        check("https://a%2eb/c", Err(BadUrl::Host));
        check("https://[::1/a", Err(BadUrl::Host));
        check(&format!("https://a/{}", "b".repeat(URL_BYTES_MAX)), Err(BadUrl::Long));
    }

    #[test]
    fn spellings_of_one_repository_are_equal() {
        let identity = |text: &str| text.parse::<GitUrl>().unwrap().identity();
        let expected = identity("https://git.example.org/team/site");
        for text in [
            "https://GIT.example.org/team/site.git",
            "https://git.example.org:443/Team/Site/",
            "ssh://git@git.example.org/team/site.git",
            "git@git.example.org:team/site.git",
            "git@git.example.org:/team/site.git/",
            "http://git.example.org/team/site",
        ] {
            assert_eq!(identity(text), expected, "{text}");
        }
        for text in [
            "https://git.example.org:8443/team/site",
            "https://git.example.org/team/site2",
            "https://git.example.com/team/site",
        ] {
            assert_ne!(identity(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_url_that_is_read_is_read_again_from_its_text(text in "(https|ssh|http)://[a-z0-9.:@\\[\\]-]{1,20}/[a-zA-Z0-9./~_-]{0,20}") {
            if let Ok(url) = text.parse::<GitUrl>() {
                let again: GitUrl = url.to_string().parse().unwrap();
                prop_assert_eq!(again.identity(), url.identity());
                prop_assert_eq!((again.host, again.port), (url.host, url.port));
            }
        }

        #[test]
        fn no_text_causes_a_panic(text in "\\PC{0,60}") {
            let _ = text.parse::<GitUrl>();
        }
    }
}
