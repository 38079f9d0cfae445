//! `proxy`: the proxy through which containerd and kubelet reach other hosts.

use super::read::{Key, Problems, Value};
use super::registry::is_url;

/// The proxies, as in the environment variables `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxy {
    /// The proxy for http.
    pub http: Option<String>,
    /// The proxy for https.
    pub https: Option<String>,
    /// Hosts, domains, addresses and prefixes that are reached without a proxy.
    pub no: Vec<String>,
}

const KEYS: [Key<Proxy>; 3] = [
    ("http", |proxy, value, problems| proxy.http = url(value, problems)),
    ("https", |proxy, value, problems| proxy.https = url(value, problems)),
    ("no", no),
];

/// Reads `proxy`.
pub fn read(value: &Value<'_>, problems: &mut Problems) -> Proxy {
    value.fields(&KEYS, problems)
}

fn url(value: &Value<'_>, problems: &mut Problems) -> Option<String> {
    let text = value.text(problems)?;
    if is_url(&text) {
        return Some(text);
    }
    // The address is not shown, because it may contain a password.
    let next = "write it as \"http://proxy.example:3128\"";
    value.refuse(problems, "not an http or https address, ignored", next);
    None
}

fn no(proxy: &mut Proxy, value: &Value<'_>, problems: &mut Problems) {
    proxy.no = value.parsed(problems, "write hosts, domains, addresses or prefixes", |text| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-.:/[]*_".contains(&byte);
        let valid = text.bytes().all(allowed);
        valid.then(|| text.to_owned()).ok_or_else(|| format!("{text:?} is not a host or prefix"))
    });
}
