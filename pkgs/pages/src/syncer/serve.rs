//! Webhooks, requests, the table and packs over HTTP/1.1.
//!
//! | request | proof | effect |
//! | --- | --- | --- |
//! | `POST /webhook/NS/NAME` | signature | the site is fetched if the push concerns it |
//! | `POST /sync/NS/NAME` | request token | the site is fetched |
//! | `PUT /site/NS/NAME` | request token, or one of the site | an archive is published |
//! | `DELETE /site/NS/NAME` | request token | all revisions are removed, and the site is fetched again |
//! | `GET /v1/sites?after=GENERATION` | server token | the changes of the table |
//! | `GET /v1/revisions/sha256:HEX` | server token | a pack |
//!
//! A request has [`BODY_BYTES_MAX`] bytes at most. Head and body have deadlines, and the number of
//! connections is limited.

use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path as Segments, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use futures_util::stream;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use kiln_daemon::exit::Exit;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use crate::digest::Digest;
use crate::git::meter::received_by_all;
use crate::guard::url::GitUrl;
use crate::previews::reference::Reference;
use crate::publish::store::Held;
use crate::syncer::cluster::Cluster;
use crate::syncer::desired::Desired;
use crate::syncer::metrics::{self, Sites, add};
use crate::syncer::reply::{Answer, Own, Reply, accepted, authorize, key, lines, text};
use crate::syncer::report::report;
use crate::syncer::shared::{Place, Shared, now};
use crate::syncer::work::Outcome;
use crate::syncer::{status, upload};
use crate::table::Changes;
use crate::webhook::event::{self, Event};
use crate::webhook::forge;

/// The most bytes of a request's body. GitHub sends up to 25 MB, but a push of usual size has a few
/// kilobytes, and the poll finds what a larger one reports.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// The longest time of a head, and of a body.
const HEAD_MAX: Duration = Duration::from_secs(10);
const BODY_MAX: Duration = Duration::from_secs(20);

/// The longest wait of a request for the table while nothing changes.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(10);

/// The most connections at a time.
const CONNECTIONS_MAX: usize = 512;

/// The most bytes of a head.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// The bytes of a pack that are read at once.
const PART: usize = 256 << 10;

/// The pause after a failed accept, which fails while the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Opens a port.
pub async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}; choose another address"))
        .context(Exit::Config)
}

/// Returns the requests of the main port.
pub fn router(shared: Arc<Shared>, cluster: Cluster) -> Router {
    Router::new()
        .route("/webhook/{namespace}/{name}", post(webhook))
        .route("/sync/{namespace}/{name}", post(request))
        .route("/site/{namespace}/{name}", delete(remove).put(upload::put))
        .route("/v1/sites", get(sites))
        .route("/v1/revisions/{digest}", get(revision))
        .with_state(Own { shared, cluster })
}

/// Returns the requests of the operations port.
pub fn operations(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(numbers))
        .route("/status", get(status::show))
        .route("/status.css", get(status::style))
        .with_state(shared)
}

/// Answers connections, forever.
pub async fn serve(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                sleep(PAUSE).await;
                continue;
            }
        };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_MAX)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!("a connection ended: {error}");
            }
            drop(place);
        });
    }
}

/// Reads a body within its limits.
pub(super) async fn body(request: Request) -> Result<Bytes, Reply> {
    body_within(request, BODY_MAX).await
}

async fn body_within(request: Request, time: Duration) -> Result<Bytes, Reply> {
    match timeout(time, to_bytes(request.into_body(), BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(text(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB")),
        Err(_) => Err(text(StatusCode::REQUEST_TIMEOUT, "the body is too slow")),
    }
}

/// Handles a webhook. Unknown sites and wrong signatures have the same answer, so that a stranger
/// learns no names.
async fn webhook(
    State(own): State<Own>,
    Segments((namespace, name)): Segments<(String, String)>,
    request: Request,
) -> Response {
    let answer = delivered(&own, &namespace, &name, request).await;
    let metrics = &own.shared.metrics;
    add(if answer.is_ok() { &metrics.webhooks } else { &metrics.refused }, 1);
    answer.into_response()
}

async fn delivered(own: &Own, namespace: &str, name: &str, request: Request) -> Answer {
    let refused = || text(StatusCode::UNAUTHORIZED, "the signature does not fit, or no such site");
    let headers = request.headers().clone();
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let delivery = forge::delivery(header);
    let delivery = delivery
        .ok_or_else(|| text(StatusCode::BAD_REQUEST, "the headers are those of no known forge"))?;
    let body = body(request).await?;
    let site = key(namespace, name).ok().and_then(|key| own.shared.site(&key));
    let site = site.ok_or_else(refused)?;
    if !delivery.is_proven(&body, &secrets(own, &site).await) {
        return Err(refused());
    }
    let event = event::parse(delivery.forge, delivery.event, &body);
    let event = event.map_err(|bad| text(StatusCode::BAD_REQUEST, bad.to_string()))?;
    let (Event::Push { repositories, .. } | Event::Pull { repositories, .. }) = &event else {
        return Ok(accepted("nothing to do"));
    };
    let own_repository = site.url.as_ref().map(GitUrl::identity);
    let concerns = own_repository.is_ok_and(|own| repositories.contains(&own));
    let work = Work::of(&event, &site);
    if !concerns || work == Work::default() {
        return Ok(accepted("the event concerns another repository or branch"));
    }
    if let Some(id) = delivery.id
        && !own.shared.inner().seen.is_new(&site.key, id)
    {
        return Ok(accepted("the delivery was handled before"));
    }
    if let Event::Pull { reference: Some(reference), is_closed, .. } = event {
        own.shared.previews.announce(&site.key, reference, is_closed, now());
    }
    if work.previews {
        own.shared.previews.request(&site.key, now());
    }
    if work.site {
        own.shared.request(&site.key);
    }
    Ok(accepted("the site will be fetched"))
}

/// The work that an event causes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Work {
    /// The site is fetched.
    site: bool,
    /// The references of its previews are looked at.
    previews: bool,
}

impl Work {
    fn of(event: &Event, site: &Desired) -> Self {
        let wish = site.previews.as_ref();
        match event {
            Event::Push { branches, .. } => {
                let is_wanted = |branch: &String| {
                    let reference = Reference::Branch(branch.clone());
                    wish.is_some_and(|wish| wish.pulls || wish.wants(&reference))
                };
                let others = branches.iter().filter(|branch| **branch != site.branch);
                Self {
                    site: branches.contains(&site.branch),
                    previews: others.into_iter().any(is_wanted),
                }
            }
            Event::Pull { .. } => Self { site: false, previews: wish.is_some() },
            Event::Ping | Event::Other => Self::default(),
        }
    }
}

/// Returns the secrets that prove a webhook of a site: its own one, and the shared one if the
/// administrator has chosen to have one.
async fn secrets(own: &Own, site: &Desired) -> Vec<Vec<u8>> {
    let own_secret = match own.cluster.webhook_secret(site).await {
        Ok(secret) => secret,
        Err(error) => {
            tracing::warn!(site = %site.key, "cannot check a webhook: {error:#}");
            None
        }
    };
    let shared = own.shared.options.webhook_secret.as_deref().map(lines).unwrap_or_default();
    own_secret.into_iter().chain(shared).collect()
}

async fn request(
    State(own): State<Own>,
    Segments((namespace, name)): Segments<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    authorize(&own.shared, &headers, own.shared.options.request_token.as_deref())?;
    let key = key(&namespace, &name)?;
    own.shared.previews.request(&key, now());
    if own.shared.request(&key) {
        Ok(accepted("the site will be fetched"))
    } else {
        Err(text(StatusCode::NOT_FOUND, "no such site"))
    }
}

async fn remove(
    State(own): State<Own>,
    Segments((namespace, name)): Segments<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    authorize(&own.shared, &headers, own.shared.options.request_token.as_deref())?;
    let key = key(&namespace, &name)?;
    if let Err(error) = own.shared.store.remove(&key) {
        tracing::warn!(site = %key, "cannot remove the revisions: {error}");
        return Err(text(StatusCode::INTERNAL_SERVER_ERROR, "cannot remove the revisions"));
    }
    own.shared.offer(&key);
    if let Some(site) = own.shared.site(&key) {
        own.shared.forget_revision(&key);
        report(&own.shared, &own.cluster, &site, &Outcome::Removed, None).await;
    }
    own.shared.request(&key);
    Ok(accepted("the revisions are removed, and the site will be fetched"))
}

/// Answers with the changes of the table, and waits while nothing changes.
async fn sites(State(own): State<Own>, uri: Uri, headers: HeaderMap) -> Answer {
    authorize(&own.shared, &headers, own.shared.options.server_token.as_deref())?;
    let after = uri.query().and_then(|query| query.strip_prefix("after=")).unwrap_or_default();
    let mut news = own.shared.news.subscribe();
    let changes = timeout(WAIT_MAX, async {
        loop {
            news.mark_unchanged();
            {
                if let Some(changes) = own.shared.inner().changes(after) {
                    return changes;
                }
            }
            if news.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    });
    let changes = match changes.await {
        Ok(changes) => changes,
        Err(_) if own.shared.inner().is_complete => {
            Changes { generation: after.to_owned(), ..Changes::default() }
        }
        Err(_) => return Err(text(StatusCode::SERVICE_UNAVAILABLE, "the sites are not known yet")),
    };
    let body = serde_json::to_vec(&changes)
        .map_err(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "cannot write the table"))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Answers with a pack. It is held until the answer is complete or the client is gone.
async fn revision(
    State(own): State<Own>,
    Segments(digest): Segments<String>,
    headers: HeaderMap,
) -> Answer {
    authorize(&own.shared, &headers, own.shared.options.server_token.as_deref())?;
    let digest: Digest =
        digest.parse().map_err(|_| text(StatusCode::BAD_REQUEST, "not a digest"))?;
    let held = own.shared.store.hold(digest);
    let held = held.ok_or_else(|| text(StatusCode::NOT_FOUND, "no such revision"))?;
    let length = held.file.metadata().map_or(0, |metadata| metadata.len());
    let parts = stream::try_unfold((held, 0), part);
    let fields = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, length.to_string()),
    ];
    Ok((fields, Body::from_stream(parts)).into_response())
}

async fn part((held, at): (Held, u64)) -> std::io::Result<Option<(Bytes, (Held, u64))>> {
    let read = tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; PART];
        let count = held.file.read_at(&mut buffer, at)?;
        buffer.truncate(count);
        Ok((count > 0).then(|| (Bytes::from(buffer), (held, at + count as u64))))
    });
    read.await.map_err(std::io::Error::other)?
}

async fn ready(State(shared): State<Arc<Shared>>) -> Reply {
    let place = *shared.place.borrow();
    let fault = if !shared.inner().is_complete {
        "the sites are not known yet"
    } else if place == Place::Waits {
        "no syncer leads"
    } else if place != Place::Leads && !shared.is_whole.load(Ordering::Relaxed) {
        "the leader's revisions are not copied yet"
    } else if shared.is_unsure.load(Ordering::Relaxed) {
        "the lead is not confirmed"
    } else {
        return text(StatusCode::OK, "ready");
    };
    text(StatusCode::SERVICE_UNAVAILABLE, fault)
}

async fn numbers(State(shared): State<Arc<Shared>>) -> Response {
    let sites = {
        let inner = shared.inner();
        let (known, fetching) = inner.queue.counts();
        let waiting = inner.queue.overdue(now());
        let (served, lag) = (inner.feed.len(), inner.queue.lag(now()));
        drop(inner);
        let (previewed, looking) = shared.previews.counts();
        let previews = shared.store.sites().keys().filter(|key| key.preview().is_some()).count();
        let received = received_by_all();
        Sites { known, served, fetching, waiting, lag, previewed, looking, previews, received }
    };
    let fields = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (fields, metrics::text(&shared.metrics, sites)).into_response()
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use axum::body::{Body, Bytes};
    use axum::extract::Request;
    use axum::http::StatusCode;
    use axum::response::IntoResponse as _;
    use futures_util::stream;

    use super::{BODY_BYTES_MAX, BODY_MAX, body_within};

    async fn check(body: Body, time: Duration, expected: Result<usize, StatusCode>) {
        let read = body_within(Request::new(body), time).await;
        let read = read.map(|bytes| bytes.len());
        assert_eq!(read.map_err(|reply| reply.into_response().status()), expected);
    }

    #[tokio::test]
    async fn a_large_and_a_slow_body_are_refused() {
        let most = vec![0; BODY_BYTES_MAX];
        check(Body::from(most), BODY_MAX, Ok(BODY_BYTES_MAX)).await;
        let more = vec![0; BODY_BYTES_MAX + 1];
        check(Body::from(more), BODY_MAX, Err(StatusCode::PAYLOAD_TOO_LARGE)).await;
        // The rest of the body never comes.
        let slow = Body::from_stream(stream::pending::<io::Result<Bytes>>());
        check(slow, Duration::from_millis(1), Err(StatusCode::REQUEST_TIMEOUT)).await;
    }
}
