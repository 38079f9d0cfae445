//! A syncer that follows another one.
//!
//! Only the leader answers with the table, so that no server sees an older table after a newer one. A
//! follower passes requests on to the leader, and answers packs that it has itself, because a digest names
//! the same bytes everywhere. While no leader answers, it checks webhooks and requests itself, remembers
//! them on its disk, and passes them on later, or carries them out when it leads.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path as Segments, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::digest::Digest;
use crate::key::SiteKey;
use crate::replica::client::Client;
use crate::replica::copy::{Copies, Copy, adopt};
use crate::replica::plan::Transfer;
use crate::syncer::reply::{Answer, accepted, authorize, key, text};
use crate::syncer::serve::{WAIT_MAX, body};
use crate::syncer::shared::{Place, Shared};

/// The header of a request that another syncer has passed on. It is passed on once only.
const PASSED: &str = "x-pages-passed";

/// The time to connect to the leader.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// The time for the leader's answer to a webhook or a request. Forges wait for about 10 s.
const SHORT_MAX: Duration = Duration::from_secs(5);

/// The time for the head of any other answer. An upload has it for its whole body.
const LONG_MAX: Duration = Duration::from_mins(10);

/// The pauses after failures: the first one, doubled up to the last one.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Adds the requests that only other syncers make, and passes all requests on while another one leads.
pub(super) fn gated(router: Router, shared: &Arc<Shared>) -> Router {
    let own = Router::new()
        .route("/v1/copies", get(copies))
        .route("/v1/requests/{namespace}/{name}", post(request))
        .with_state(shared.clone());
    router.merge(own).layer(from_fn_with_state(shared.clone(), gate))
}

/// Answers a request here if this syncer leads, and passes it on otherwise.
async fn gate(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let place = *shared.place.borrow();
    let path = request.uri().path();
    if place == Place::Leads || has_pack(&shared, path) {
        return next.run(request).await;
    }
    if request.headers().contains_key(PASSED) {
        return away("this syncer does not lead");
    }
    let is_short = path.starts_with("/webhook/") || path.starts_with("/sync/");
    if !(is_short && request.method() == Method::POST) {
        return match pass(&shared, place, request, LONG_MAX).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!("cannot pass a request on: {error:#}");
                away("no syncer leads at present")
            }
        };
    }
    // The body is kept, because this syncer takes the request itself if the leader does not answer.
    let (head, rest) = request.into_parts();
    let bytes = match body(Request::from_parts(head.clone(), rest)).await {
        Ok(bytes) => bytes,
        Err(reply) => return reply.into_response(),
    };
    let copy = Request::from_parts(head.clone(), Body::from(bytes.clone()));
    match pass(&shared, place, copy, SHORT_MAX).await {
        Ok(answer) if answer.status() != StatusCode::SERVICE_UNAVAILABLE => answer,
        _ => next.run(Request::from_parts(head, Body::from(bytes))).await,
    }
}

fn away(why: &'static str) -> Response {
    let mut answer = text(StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    answer
}

/// True if a path names a pack that is here.
fn has_pack(shared: &Shared, path: &str) -> bool {
    let digest = path.strip_prefix("/v1/revisions/").and_then(|text| text.parse::<Digest>().ok());
    digest.is_some_and(|digest| shared.store.has(digest))
}

/// Passes a request on. It fails at once when another syncer becomes the leader.
async fn pass(shared: &Shared, place: Place, request: Request, most: Duration) -> Result<Response> {
    let Place::Follows(leader) = place else { bail!("no leader is known") };
    let mut changes = shared.place.subscribe();
    tokio::select! {
        answer = send(leader, request, most) => answer,
        _ = changes.wait_for(|now| *now != place) => bail!("the leader has changed"),
    }
}

async fn send(leader: SocketAddr, mut request: Request, most: Duration) -> Result<Response> {
    let headers = request.headers_mut();
    headers.remove(header::CONNECTION);
    headers.insert(PASSED, HeaderValue::from_static("1"));
    let stream =
        timeout(CONNECT_MAX, TcpStream::connect(leader)).await.context("cannot connect")?;
    let stream = TokioIo::new(stream.context("cannot connect")?);
    let (mut sender, connection) = handshake(stream).await.context("cannot connect")?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!("the connection to the leader ended: {error}");
        }
    });
    let answer = timeout(most, sender.send_request(request)).await.context("no answer in time")?;
    let mut answer = answer.context("no answer")?;
    answer.headers_mut().remove(header::CONNECTION);
    Ok(answer.map(Body::new))
}

/// Answers with the manifests that changed after a generation, and waits while none changes.
async fn copies(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap) -> Answer {
    authorize(&shared, &headers, shared.options.server_token.as_deref())?;
    let after = uri.query().and_then(|query| query.strip_prefix("after=")).unwrap_or_default();
    let mut news = shared.news.subscribe();
    let changes = timeout(WAIT_MAX, async {
        loop {
            news.mark_unchanged();
            if let Some(copies) = changed(&shared, after) {
                return copies;
            }
            if news.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    });
    let is_known = shared.inner().is_complete;
    let copies = match changes.await {
        Ok(copies) => copies,
        Err(_) if is_known => Copies { generation: after.to_owned(), ..Copies::default() },
        Err(_) => return Err(text(StatusCode::SERVICE_UNAVAILABLE, "the sites are not known yet")),
    };
    let body = serde_json::to_vec(&copies)
        .map_err(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "cannot write the list"))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

fn changed(shared: &Shared, after: &str) -> Option<Copies> {
    let delta = {
        let inner = shared.inner();
        inner.is_complete.then(|| inner.copies.changes(after)).flatten()?
    };
    let sites = delta.sites.into_iter().filter_map(|(site, _)| {
        let manifest = shared.store.manifest(&site)?;
        Some(Copy { site, manifest })
    });
    let (generation, sites) = (delta.generation, sites.collect());
    Some(Copies { generation, sites, removed: delta.removed })
}

/// Takes a request that another syncer has accepted.
async fn request(
    State(shared): State<Arc<Shared>>,
    Segments((namespace, name)): Segments<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    authorize(&shared, &headers, shared.options.server_token.as_deref())?;
    // A site that is unknown here is new, and therefore due, or gone.
    shared.request(&key(&namespace, &name)?);
    Ok(accepted("the site will be fetched"))
}

/// Returns a client of the leader. It has the token of servers, which all syncers accept.
fn client(shared: &Shared, leader: SocketAddr) -> Option<Client> {
    let token = shared.options.server_token.clone()?;
    Some(Client::new(&[format!("http://{leader}")], token))
}

/// Waits until another syncer leads, and returns a client of it.
async fn leader(shared: &Shared) -> (SocketAddr, Client) {
    let mut place = shared.place.subscribe();
    loop {
        let found = place.wait_for(|place| matches!(place, Place::Follows(_))).await;
        let found = found.map(|place| *place);
        if let Ok(Place::Follows(address)) = found
            && let Some(client) = client(shared, address)
        {
            return (address, client);
        }
        // Without a token or a sender there is nothing to follow.
        std::future::pending::<()>().await;
    }
}

/// Copies the leader's revisions while another syncer leads, forever.
pub(super) async fn copy(shared: &Arc<Shared>) {
    let mut pause = PAUSE_MIN;
    loop {
        let (address, client) = leader(shared).await;
        let mut place = shared.place.subscribe();
        let result = tokio::select! {
            result = copy_from(shared, &client) => result,
            _ = place.wait_for(|place| *place != Place::Follows(address)) => {
                pause = PAUSE_MIN;
                continue;
            }
        };
        if let Err(error) = result {
            tracing::warn!("cannot copy the leader's revisions: {error:#}; retrying");
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Copies until a failure. Every new connection begins with all manifests.
async fn copy_from(shared: &Arc<Shared>, client: &Client) -> Result<()> {
    let mut generation: Option<String> = None;
    loop {
        let (asking, after) = (client.clone(), generation.clone());
        let copies = spawn_blocking(move || asking.copies(after.as_deref())).await??;
        for site in &copies.removed {
            shared.store.remove(site)?;
            shared.offer(site);
        }
        for one in copies.sites {
            take(shared, client, one).await?;
        }
        if generation.is_none() {
            shared.is_whole.store(true, Ordering::Relaxed);
            tracing::info!("has all revisions of the leader");
        }
        generation = Some(copies.generation);
    }
}

async fn take(shared: &Arc<Shared>, client: &Client, copy: Copy) -> Result<()> {
    let (own, client) = (shared.clone(), client.clone());
    let site = copy.site.clone();
    let task = spawn_blocking(move || {
        let receive = |transfer: &Transfer, file: &mut File| client.receive(transfer, file);
        adopt(&own.store, &copy, receive, || own.leads())
    });
    let is_done = task.await?;
    if !is_done.with_context(|| format!("cannot copy {site}"))? {
        bail!("a pack of {site} was removed meanwhile");
    }
    shared.offer(&site);
    Ok(())
}

/// Passes remembered requests on to the leader, forever.
pub(super) async fn pass_on(shared: &Arc<Shared>) {
    loop {
        let (_, client) = leader(shared).await;
        let next: Option<SiteKey> = shared.inner().requested.first().cloned();
        let Some(site) = next else {
            shared.passing.notified().await;
            continue;
        };
        let key = site.clone();
        match spawn_blocking(move || client.request(&key)).await {
            Ok(Ok(())) => {
                shared.inner().requested.remove(&site);
                shared.save();
            }
            Ok(Err(error)) => {
                tracing::debug!(%site, "cannot pass a request on: {error:#}");
                sleep(PAUSE_MIN).await;
            }
            Err(_) => sleep(PAUSE_MIN).await,
        }
    }
}
