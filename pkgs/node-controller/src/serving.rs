//! The reconciler of kubelets' requests for serving certificates.
//!
//! It watches the names of the requests only and reads one request at a time, so that many or large
//! requests do not take memory. [`crate::certificate`] decides; this file reads and writes objects.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use futures_util::StreamExt as _;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, PartialObjectMeta, PostParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::events::{Event as Notice, EventType};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource as _, ResourceExt as _};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until, timeout};

use crate::certificate::refusal::Refusal;
use crate::certificate::rules::{Pattern, Request, Reserved, Verdict, decide};
use crate::context::{CALL_MAX, Context};
use crate::queue::{Queue, Work};
use kiln_controller::fault::{of_watch, plain};

/// The signer of kubelets' serving certificates.
const SIGNER: &str = "kubernetes.io/kubelet-serving";

/// The attempt after which a waiting request is a warning: a Node's addresses usually arrive within
/// the seconds before it.
const PATIENCE: u32 = 3;

/// From this attempt on a waiting request is reported at each attempt, every few minutes.
const LONG: u32 = 9;

type Requests = Api<CertificateSigningRequest>;

/// The result of an attempt.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// There is nothing left to do.
    Done,
    /// Another attempt is needed when this Node changes, or later.
    Wait(String),
}

/// Handles requests, forever.
pub async fn run(context: &Context) {
    let requests: Requests = Api::all(context.client.clone());
    let config = watcher::Config::default().fields(&format!("spec.signerName={SIGNER}"));
    let names: Api<PartialObjectMeta<CertificateSigningRequest>> = Api::all(context.client.clone());
    let mut events = pin!(watcher(names, config).default_backoff());
    let mut changes = context.changes();
    let mut queue = Queue::default();
    let start = Instant::now();
    loop {
        context.status.waiting(queue.len());
        let due = queue.next().filter(|_| context.status.has_nodes());
        tokio::select! {
            event = events.next() => match event {
                Some(event) => watched(context, &mut queue, event, start.elapsed()),
                None => return,
            },
            change = changes.recv() => match change {
                Ok(node) => queue.wake(&node, start.elapsed()),
                Err(RecvError::Lagged(_)) => queue.wake_all(start.elapsed()),
                Err(RecvError::Closed) => return,
            },
            () = sleep_until(start + due.unwrap_or_default()), if due.is_some() => {
                if let Some(work) = queue.take(start.elapsed()) {
                    attempt(context, &requests, &mut queue, work, start).await;
                }
            }
        }
    }
}

fn watched(
    context: &Context,
    queue: &mut Queue,
    event: watcher::Result<Event<PartialObjectMeta<CertificateSigningRequest>>>,
    now: Duration,
) {
    match event {
        Ok(Event::Apply(object) | Event::InitApply(object)) => {
            if let Some(dropped) = queue.add(&object.name_any(), now) {
                tracing::warn!(request = dropped, "too many requests wait; dropped one");
            }
        }
        Ok(Event::Delete(object)) => queue.remove(&object.name_any()),
        Ok(Event::Init) => context.status.works(),
        Ok(Event::InitDone) => context.status.requests_known(),
        Err(error) => context.status.fails("cannot watch requests", &of_watch(&error)),
    }
}

/// Handles one request, and puts it back where another attempt is needed.
async fn attempt(
    context: &Context,
    requests: &Requests,
    queue: &mut Queue,
    work: Work,
    start: Instant,
) {
    let result = timeout(CALL_MAX, reconcile(context, requests, &work)).await;
    let result = result.unwrap_or_else(|_| Err(anyhow!("no answer in {} s", CALL_MAX.as_secs())));
    match result {
        Ok(outcome) => {
            context.status.works();
            if let Outcome::Wait(node) = outcome {
                queue.retry(work, Some(&node), start.elapsed());
            }
        }
        Err(error) => {
            context.status.fails("cannot decide on a request", &error);
            queue.retry(work, None, start.elapsed());
        }
    }
}

async fn reconcile(context: &Context, requests: &Requests, work: &Work) -> Result<Outcome> {
    let name = &work.name;
    let found = requests.get_opt(name).await.map_err(|error| plain(&error));
    let found = found.with_context(|| format!("cannot read {name}"))?;
    let Some(object) = found.filter(is_open) else { return Ok(Outcome::Done) };
    let reserved = reserved(context).await?;
    let verdict = decide(&request(&object), &context.nodes(), &reserved);
    match verdict {
        Verdict::Approve(node) => {
            let message = format!("the names are those of the Node {node}");
            if write(requests, &object, "Approved", "OwnNames", &message).await? {
                context.status.approved();
                tracing::info!(request = name, node, "approved");
            }
            Ok(Outcome::Done)
        }
        Verdict::Deny(refusal) => {
            let (rule, message) = (refusal.rule.name(), &refusal.message);
            if write(requests, &object, "Denied", rule, message).await? {
                context.status.denied(refusal.rule);
                let requester = &object.spec.username;
                tracing::warn!(request = name, requester, rule, "denied: {message}");
            }
            Ok(Outcome::Done)
        }
        Verdict::Wait(node, refusal) => {
            report(context, &object, &refusal, work.attempts).await;
            Ok(Outcome::Wait(node))
        }
    }
}

/// True for a request for a serving certificate that has no decision yet.
fn is_open(object: &CertificateSigningRequest) -> bool {
    let status = object.status.as_ref();
    let is_decided = status.is_some_and(|status| {
        status.conditions.iter().flatten().next().is_some() || status.certificate.is_some()
    });
    object.spec.signer_name == SIGNER && !is_decided
}

fn request(object: &CertificateSigningRequest) -> Request {
    let spec = &object.spec;
    Request {
        user: spec.username.clone().unwrap_or_default(),
        groups: spec.groups.clone().unwrap_or_default(),
        usages: spec.usages.clone().unwrap_or_default(),
        pem: spec.request.0.clone(),
    }
}

/// Returns the names and addresses of the cluster itself: the listed ones, the Service `kubernetes`, and
/// the API servers behind it.
async fn reserved(context: &Context) -> Result<Reserved> {
    const NAMESPACE: &str = "default";
    const NAME: &str = "kubernetes";
    let mut reserved = context.reserved.clone();
    let services: Api<Service> = Api::namespaced(context.client.clone(), NAMESPACE);
    let service = services.get_opt(NAME).await.map_err(|error| plain(&error));
    let service = service.context("cannot read the Service `kubernetes`")?;
    let addresses = service.and_then(|service| service.spec?.cluster_ips).unwrap_or_default();
    let networks = addresses.iter().filter_map(|address| address.parse::<Pattern>().ok());
    reserved.everywhere.extend(networks);
    let slices: Api<EndpointSlice> = Api::namespaced(context.client.clone(), NAMESPACE);
    let of_service = ListParams::default().labels("kubernetes.io/service-name=kubernetes");
    let slices = slices.list(&of_service).await.map_err(|error| plain(&error));
    let slices = slices.context("cannot list the endpoints of the API servers")?;
    let endpoints = slices.items.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    let addresses = endpoints.flat_map(|endpoint| &endpoint.addresses);
    let addresses = addresses.filter_map(|address| address.parse().ok());
    reserved.api_servers.extend(addresses.map(|address: std::net::IpAddr| address.to_canonical()));
    Ok(reserved)
}

/// Writes a decision. Returns false if the request was deleted, or changed since it was read; the watch
/// reports the change.
async fn write(
    requests: &Requests,
    object: &CertificateSigningRequest,
    kind: &str,
    reason: &str,
    message: &str,
) -> Result<bool> {
    let now = Some(Time(Timestamp::now()));
    let condition = CertificateSigningRequestCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: now.clone(),
        last_transition_time: now,
    };
    let mut decided = object.clone();
    decided.status.get_or_insert_default().conditions.get_or_insert_default().push(condition);
    let name = object.name_any();
    let parameters = PostParams::default();
    match requests.replace_subresource("approval", &name, &parameters, &decided).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
        Err(error) => {
            Err(plain(&error)).with_context(|| format!("cannot write the decision on {name}"))
        }
    }
}

/// Reports a request that waits: at first in the log only, because a new node's addresses come a
/// little later than its request.
async fn report(
    context: &Context,
    object: &CertificateSigningRequest,
    refusal: &Refusal,
    attempts: u32,
) {
    let (name, message) = (object.name_any(), &refusal.message);
    if attempts == 0 {
        tracing::info!(request = name, "waits: {message}");
    }
    if attempts != PATIENCE && attempts < LONG {
        return;
    }
    tracing::warn!(request = name, "still waits: {message}");
    let notice = Notice {
        type_: EventType::Warning,
        reason: refusal.rule.name().to_owned(),
        note: Some(message.clone()),
        action: "Approve".to_owned(),
        secondary: None,
    };
    if let Err(error) = context.recorder.publish(&notice, &object.object_ref(&())).await {
        context.status.fails("cannot write an event", &plain(&error));
    }
}
