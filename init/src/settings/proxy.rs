//! `proxy`: the proxy through which containerd and kubelet reach other hosts.

use std::collections::BTreeSet;

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

/// Destinations that are always reached without a proxy: the node itself, and names that only the
/// cluster knows.
const ALWAYS: [&str; 5] = ["localhost", "127.0.0.0/8", "::1", ".svc", ".cluster.local"];

impl Proxy {
    /// Returns the environment of containerd and kubelet, `NAME=VALUE`, empty without a proxy.
    /// `direct` are more destinations without a proxy: the cluster's API server and domain.
    ///
    /// Programs differ in the case that they read, so both are set.
    #[must_use]
    pub fn environment<'a>(&'a self, direct: impl IntoIterator<Item = &'a str>) -> Vec<String> {
        if self.http.is_none() && self.https.is_none() {
            return Vec::new();
        }
        let mut no: Vec<&str> = ALWAYS.into_iter().chain(direct).collect();
        no.extend(self.no.iter().map(String::as_str));
        let mut seen = BTreeSet::new();
        no.retain(|destination| seen.insert(*destination));
        let no = Some(no.join(","));
        [("HTTP_PROXY", &self.http), ("HTTPS_PROXY", &self.https), ("NO_PROXY", &no)]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_ref()?)))
            .flat_map(|(name, value)| {
                [name.to_owned(), name.to_lowercase()].map(|name| format!("{name}={value}"))
            })
            .collect()
    }
}

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

#[cfg(test)]
mod tests {
    use super::Proxy;

    #[test]
    fn both_cases_of_each_variable_are_set() {
        let https = Some("http://proxy.example:3128".to_owned());
        let proxy =
            Proxy { https, no: vec!["10.0.0.0/8".into(), ".svc".into()], ..Proxy::default() };
        let no = "localhost,127.0.0.0/8,::1,.svc,.cluster.local,api.example,10.0.0.0/8";
        assert_eq!(
            proxy.environment(["api.example"]),
            [
                "HTTPS_PROXY=http://proxy.example:3128".to_owned(),
                "https_proxy=http://proxy.example:3128".to_owned(),
                format!("NO_PROXY={no}"),
                format!("no_proxy={no}"),
            ]
        );
    }

    #[test]
    fn without_a_proxy_nothing_is_set() {
        let proxy = Proxy { no: vec!["10.0.0.0/8".into()], ..Proxy::default() };
        assert!(proxy.environment([]).is_empty());
    }
}
