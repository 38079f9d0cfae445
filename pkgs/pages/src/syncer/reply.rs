//! Answers for people, and the proof of a request by a token.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::key::SiteKey;
use crate::syncer::cluster::Cluster;
use crate::syncer::metrics::add;
use crate::syncer::shared::Shared;
use crate::webhook::forge::{SECRET_BYTES_MIN, is_equal};

/// The things that handlers use.
#[derive(Clone)]
pub struct Own {
    /// The state of the process.
    pub shared: Arc<Shared>,
    /// The API server.
    pub cluster: Cluster,
}

/// A short answer for people.
pub struct Reply(pub StatusCode, pub Cow<'static, str>);

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        (self.0, format!("{}\n", self.1)).into_response()
    }
}

/// The answer of a handler.
pub type Answer = Result<Response, Reply>;

/// Returns an answer with a text.
#[must_use]
pub fn text(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Reply {
    Reply(status, text.into())
}

/// Returns an answer to a request that has an effect later.
#[must_use]
pub fn accepted(what: &'static str) -> Response {
    text(StatusCode::ACCEPTED, what).into_response()
}

/// Returns the key of a site.
pub fn key(namespace: &str, name: &str) -> Result<SiteKey, Reply> {
    SiteKey::new(namespace, name).map_err(|bad| text(StatusCode::NOT_FOUND, bad.to_string()))
}

/// Reads a file with tokens: one a line, at least [`SECRET_BYTES_MIN`] bytes each.
#[must_use]
pub fn lines(file: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(file).unwrap_or_else(|error| {
        tracing::warn!("cannot read {}: {error}", file.display());
        Vec::new()
    });
    tokens(&bytes)
}

/// Returns the tokens of a text: one a line, at least [`SECRET_BYTES_MIN`] bytes each.
#[must_use]
pub fn tokens(text: &[u8]) -> Vec<Vec<u8>> {
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.filter(|line| line.len() >= SECRET_BYTES_MIN).map(<[u8]>::to_vec).collect()
}

/// Returns the bearer token of a request; empty if it has none.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> &str {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    value.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default()
}

/// Checks the bearer token of a request against a file.
pub fn authorize(shared: &Shared, headers: &HeaderMap, file: Option<&Path>) -> Result<(), Reply> {
    let tokens = file.map(lines).unwrap_or_default();
    if tokens.iter().any(|known| is_equal(bearer(headers), known)) {
        return Ok(());
    }
    add(&shared.metrics.refused, 1);
    Err(text(StatusCode::UNAUTHORIZED, "the token is missing or wrong"))
}
