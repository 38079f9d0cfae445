//! Asks for the DNS records of a domain.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::RData;

use crate::ownership::rules::{RECORD, namespaces};

/// A resolver with the settings of `/etc/resolv.conf`.
pub struct Resolver(TokioResolver);

impl Resolver {
    /// Creates a resolver. Sends no question.
    pub fn new() -> Result<Self> {
        let builder = TokioResolver::builder_tokio().context("cannot read /etc/resolv.conf")?;
        Ok(Self(builder.build().context("cannot create a resolver")?))
    }

    /// Returns the namespaces that a host's records name, or nothing if no server answered.
    pub async fn ask(&self, host: &str) -> Option<BTreeSet<String>> {
        // The final dot keeps the search domains of `/etc/resolv.conf` out.
        match self.0.txt_lookup(format!("{RECORD}.{host}.")).await {
            Ok(found) => {
                let texts: Vec<String> =
                    found.answers().iter().filter_map(|record| text(&record.data)).collect();
                Some(namespaces(texts.iter().map(String::as_str)))
            }
            Err(error) if error.is_no_records_found() || error.is_nx_domain() => {
                Some(BTreeSet::new())
            }
            Err(error) => {
                tracing::debug!(host, %error, "cannot look up the record of a domain");
                None
            }
        }
    }
}

/// Returns the text of a TXT record: its strings joined (RFC 7208, section 3.3).
fn text(data: &RData) -> Option<String> {
    let RData::TXT(record) = data else { return None };
    let bytes: Vec<u8> = record.txt_data.iter().flatten().copied().collect();
    String::from_utf8(bytes).ok()
}
