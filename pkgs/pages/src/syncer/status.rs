//! The status page on the operations port.
//!
//! The syncer answers it, because it knows all sites already and so needs no more rights, and the port
//! is the one that visitors do not reach.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderValue, Uri, header};
use axum::response::{IntoResponse as _, Response};

use crate::api::{ConditionStatus, READY, ROLLED_BACK};
use crate::board::page::{choose, page};
use crate::board::query::Query;
use crate::board::{Health, POLICY, Row, STYLE};
use crate::syncer::desired::Desired;
use crate::syncer::report::date;
use crate::syncer::shared::{Shared, now};

/// The headers that both answers have. The page is about now, so no one keeps it.
const COMMON: [(header::HeaderName, &str); 4] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

/// Answers with the page.
pub async fn show(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    let query = Query::new(uri.query().unwrap_or_default());
    let part = choose(shared.inner().sites.values().map(row), &query);
    answer(page(&part, &query, &date(now())), "text/html; charset=utf-8")
}

/// Answers with the style sheet.
pub async fn style() -> Response {
    answer(STYLE.to_owned(), "text/css; charset=utf-8")
}

fn answer(body: String, kind: &'static str) -> Response {
    let mut answer = body.into_response();
    for (name, value) in COMMON.into_iter().chain([(header::CONTENT_TYPE, kind)]) {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

/// Reduces a site to what the page shows.
fn row(site: &Desired) -> Row {
    let status = &site.status;
    let ready = status.condition(READY);
    let health = match ready.map(|ready| ready.status) {
        Some(ConditionStatus::True) => Health::Ready,
        Some(ConditionStatus::False) => Health::NotReady,
        Some(ConditionStatus::Unknown) | None => Health::Unknown,
    };
    let is_usual = |reason: &str| ["Ready", ROLLED_BACK].contains(&reason);
    Row {
        site: site.key.clone(),
        url: status.url.clone(),
        health,
        reason: ready.map_or_else(|| "Pending".to_owned(), |ready| ready.reason.clone()),
        message: ready.filter(|it| !is_usual(&it.reason)).map(|it| it.message.clone()),
        commit: status.revision.as_ref().map(|revision| revision.commit.clone()),
        published: status.revision.as_ref().map(|revision| revision.time.clone()),
    }
}
