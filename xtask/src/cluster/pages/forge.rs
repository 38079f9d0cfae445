//! The webhook that a forge sends after a push, with the headers and the signature of GitHub.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;
use ureq::Agent;

use super::objects::Site;

/// The longest time for a delivery, which passes through a port-forward into an emulated machine.
const DELIVERY_MAX: Duration = Duration::from_secs(30);

/// Delivers the event of a push of `repository` to the syncer at `url`.
pub fn deliver(url: &str, site: Site, repository: &str, secret: &str, id: &str) -> Result<()> {
    let push = json!({ "ref": "refs/heads/main", "repository": { "clone_url": repository } });
    let body = push.to_string();
    let url = format!("{url}/webhook/{}/{}", site.namespace, site.name);
    let config = Agent::config_builder().proxy(None).http_status_as_error(false);
    let agent = Agent::new_with_config(config.timeout_global(Some(DELIVERY_MAX)).build());
    let request = agent
        .post(&url)
        .header("Content-Type", "application/json")
        .header("X-GitHub-Event", "push")
        .header("X-GitHub-Delivery", id)
        .header("X-Hub-Signature-256", format!("sha256={}", sign(&body, secret)?));
    let status = request.send(&body).with_context(|| format!("POST {url}"))?.status();
    ensure!(status == 202, "cannot deliver the webhook of {}: status {status}", site.name);
    Ok(())
}

fn sign(body: &str, secret: &str) -> Result<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).context("a bad secret")?;
    mac.update(body.as_bytes());
    Ok(mac.finalize().into_bytes().iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

#[cfg(test)]
mod tests {
    use super::sign;

    #[test]
    fn the_signature_is_that_of_githubs_documentation() {
        assert_eq!(
            sign("Hello, World!", "It's a Secret to Everybody").unwrap(),
            "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        );
    }
}
