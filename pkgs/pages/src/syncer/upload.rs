//! Uploads: an archive in the body of a request becomes a revision.
//!
//! The body goes to a file without a name, and so do the contents of the archive, so nothing is left
//! behind when a client, the archive or this process fails.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{Path as Segments, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse as _;
use futures_util::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::archive::limits::Limits;
use crate::archive::read;
use crate::digest::Digest;
use crate::key::SiteKey;
use crate::syncer::desired::Desired;
use crate::syncer::metrics::add;
use crate::syncer::reply::{Answer, Own, Reply, bearer, key, lines, text, tokens};
use crate::syncer::report::report;
use crate::syncer::roll::roll;
use crate::syncer::shared::Shared;
use crate::syncer::work::{Outcome, failed, publish_upload};
use crate::webhook::forge::is_equal;

/// The most bytes of an archive.
const UPLOAD_BYTES_MAX: u64 = 256 << 20;

/// The longest time of a whole body, and the longest silence within it.
const BODY_MAX: Duration = Duration::from_mins(10);
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// The longest time of reading an archive.
const READ_MAX: Duration = Duration::from_mins(1);

/// The most uploads at a time, and the most of one namespace. Each needs disk and memory.
const UPLOADS_MAX: usize = 4;
const NAMESPACE_UPLOADS_MAX: usize = 2;

/// The parts of a body that wait for the disk at most.
const WAITING_MAX: usize = 16;

/// Publishes the archive in the body of a request.
pub async fn put(
    State(own): State<Own>,
    Segments((namespace, name)): Segments<(String, String)>,
    request: Request,
) -> Answer {
    let site = prove(&own, &namespace, &name, request.headers()).await?;
    if !site.is_upload {
        let what = "the site has a repository; remove spec.repo to upload files";
        return Err(text(StatusCode::CONFLICT, what));
    }
    let too_large = || {
        let limit = UPLOAD_BYTES_MAX >> 20;
        text(StatusCode::PAYLOAD_TOO_LARGE, format!("the archive is larger than {limit} MiB"))
    };
    if length(request.headers()).is_some_and(|length| length > UPLOAD_BYTES_MAX) {
        return Err(too_large());
    }
    let place = Place::take(&own.shared, &site.key)?;
    let (file, digest) = match timeout(BODY_MAX, receive(&own.shared, request.into_body())).await {
        Ok(result) => result.map_err(|broken| match broken {
            Broken::TooLarge => too_large(),
            Broken::TooSlow => slow(),
            Broken::Client => text(StatusCode::BAD_REQUEST, "the body ended too early"),
            Broken::Disk(error) => {
                tracing::warn!(site = %site.key, "cannot keep an upload: {error}");
                text(StatusCode::INTERNAL_SERVER_ERROR, "cannot keep the archive")
            }
        })?,
        Err(_) => return Err(slow()),
    };
    let outcome = publish(&own.shared, &site, file, digest).await;
    drop(place);
    finish(&own, &site, outcome).await
}

fn slow() -> Reply {
    text(StatusCode::REQUEST_TIMEOUT, "the body is too slow")
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Checks the token of a request. Unknown sites and wrong tokens have the same answer, so that a
/// stranger learns no names.
async fn prove(
    own: &Own,
    namespace: &str,
    name: &str,
    headers: &HeaderMap,
) -> Result<Desired, Reply> {
    let refused = || {
        add(&own.shared.metrics.refused, 1);
        text(StatusCode::UNAUTHORIZED, "the token is missing or wrong, or no such site")
    };
    let token = bearer(headers);
    let site = key(namespace, name).ok().and_then(|key| own.shared.site(&key));
    let site = site.filter(|_| !token.is_empty()).ok_or_else(refused)?;
    let mut known = own.shared.options.request_token.as_deref().map(lines).unwrap_or_default();
    match own.cluster.upload_tokens(&site).await {
        Ok(text) => known.extend(text.map(|text| tokens(text.as_bytes())).unwrap_or_default()),
        Err(error) => tracing::warn!(site = %site.key, "cannot check an upload: {error:#}"),
    }
    if known.iter().any(|known| is_equal(token, known)) { Ok(site) } else { Err(refused()) }
}

/// A place among the uploads that run at a time.
struct Place {
    shared: Arc<Shared>,
    key: SiteKey,
}

impl Place {
    fn take(shared: &Arc<Shared>, key: &SiteKey) -> Result<Self, Reply> {
        let mut inner = shared.inner();
        let own = inner.uploads.iter().filter(|one| one.namespace() == key.namespace()).count();
        if inner.uploads.contains(key) {
            return Err(text(StatusCode::CONFLICT, "another upload of the site runs"));
        }
        if inner.uploads.len() >= UPLOADS_MAX || own >= NAMESPACE_UPLOADS_MAX {
            let what = "too many uploads run; try again in a minute";
            return Err(text(StatusCode::SERVICE_UNAVAILABLE, what));
        }
        inner.uploads.insert(key.clone());
        drop(inner);
        Ok(Self { shared: shared.clone(), key: key.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.inner().uploads.remove(&self.key);
    }
}

/// The reason why a body has not arrived.
enum Broken {
    TooLarge,
    TooSlow,
    Client,
    Disk(io::Error),
}

/// Writes a body to a file without a name, and returns it with the body's digest.
async fn receive(shared: &Shared, body: Body) -> Result<(File, Digest), Broken> {
    let scratch = shared.store.scratch();
    let (sender, mut parts) = mpsc::channel::<Bytes>(WAITING_MAX);
    let writer = spawn_blocking(move || {
        let mut file = tempfile::tempfile_in(scratch)?;
        let mut sum = Sha256::new();
        while let Some(part) = parts.blocking_recv() {
            sum.update(&part);
            file.write_all(&part)?;
        }
        Ok((file, Digest::from_bytes(sum.finalize().into())))
    });
    let sent = send(body, sender).await;
    let written = writer.await.map_err(io::Error::other).and_then(|result| result);
    sent?;
    written.map_err(Broken::Disk)
}

async fn send(body: Body, sender: mpsc::Sender<Bytes>) -> Result<(), Broken> {
    let mut parts = body.into_data_stream();
    let mut bytes = 0;
    loop {
        let part = tokio::select! {
            part = parts.next() => part,
            () = sleep(SILENCE_MAX) => return Err(Broken::TooSlow),
        };
        let Some(part) = part else { return Ok(()) };
        let part = part.map_err(|_| Broken::Client)?;
        bytes += part.len() as u64;
        if bytes > UPLOAD_BYTES_MAX {
            return Err(Broken::TooLarge);
        }
        // The writer has failed if it does not take the part, and says so itself.
        if sender.send(part).await.is_err() {
            return Ok(());
        }
    }
}

/// Reads an archive and publishes it, in a thread of its own.
async fn publish(shared: &Arc<Shared>, site: &Desired, file: File, digest: Digest) -> Outcome {
    let (shared, site) = (shared.clone(), site.clone());
    let task = spawn_blocking(move || {
        let mut file = file;
        let start = Instant::now();
        let is_late = || start.elapsed() > READ_MAX;
        match read(&mut file, &shared.store.scratch(), &Limits::default(), &is_late) {
            Ok(tree) => publish_upload(&shared, &site, &tree, digest.to_string()),
            Err(refusal) => refusal.into(),
        }
    });
    task.await.unwrap_or_else(|error| failed("InternalError", &error))
}

/// Offers the revision to servers, writes the status, and answers.
async fn finish(own: &Own, site: &Desired, outcome: Outcome) -> Answer {
    let shared = &own.shared;
    let Some(site) = shared.site(&site.key) else {
        return Err(text(StatusCode::CONFLICT, "the site was deleted meanwhile"));
    };
    if matches!(outcome, Outcome::Published(_) | Outcome::Unchanged) {
        shared.inner().behind.remove(&site.key);
    }
    roll(shared, &site);
    shared.offer(&site.key);
    report(shared, &own.cluster, &site, &outcome, None).await;
    let manifest = shared.store.manifest(&site.key);
    let mut answer = Vec::new();
    match &outcome {
        Outcome::Published(notes) => {
            answer.push("published".to_owned());
            answer.extend(notes.lines());
        }
        Outcome::Unchanged => answer.push("the same archive is published already".to_owned()),
        Outcome::Failed { reason, message } => {
            return Err(text(status(reason), format!("{reason}: {message}")));
        }
        _ => return Err(text(StatusCode::CONFLICT, "the site was changed meanwhile; try again")),
    }
    if let Some(manifest) = manifest {
        let newest = manifest.newest().map(|newest| format!("revision {}", newest.digest));
        answer.extend(newest);
        if manifest.pinned {
            answer.push("a rollback holds the site at an earlier revision".to_owned());
        }
    }
    Ok(text(StatusCode::OK, answer.join("\n")).into_response())
}

/// Returns the status of a failure: the archive's fault, unless the disk or this program failed.
fn status(reason: &str) -> StatusCode {
    match reason {
        "DiskError" | "InternalError" => StatusCode::INTERNAL_SERVER_ERROR,
        "LimitExceeded" => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    }
}
