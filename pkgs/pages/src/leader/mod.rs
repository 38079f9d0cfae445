//! One leader among several replicas, by a Lease.

pub mod election;

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::time::{Instant, sleep, timeout};

use election::{Candidate, LEASE, LOOK, RENEW, RENEW_MAX, Record, Step};
use kiln_controller::fault::plain;

/// The reason why a replica leads no longer for sure.
#[derive(Debug)]
pub enum Lost {
    /// Another replica leads.
    Other,
    /// The API server does not answer, so another replica may lead.
    Silence(anyhow::Error),
}

impl From<Lost> for anyhow::Error {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Other => anyhow!("another replica leads"),
            Lost::Silence(error) => error,
        }
    }
}

/// A replica that wants to lead.
pub struct Elector {
    leases: Api<Lease>,
    lease: String,
    candidate: Candidate,
    start: Instant,
}

impl Elector {
    /// Creates a replica that wants the Lease `lease` in `namespace`. `name` differs between replicas.
    #[must_use]
    pub fn new(client: Client, namespace: &str, lease: &str, name: &str) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            lease: lease.to_owned(),
            candidate: Candidate::new(name.to_owned()),
            start: Instant::now(),
        }
    }

    /// Returns when this replica leads. `patience` gets the holder before each look, empty without
    /// one, and returns the time for which this replica lets others go first.
    pub async fn acquire(&mut self, mut patience: impl FnMut(&str) -> Duration) {
        let mut fault = None;
        loop {
            let wait = patience(self.candidate.holder());
            match self.look(wait).await {
                Ok(true) => return,
                Ok(false) => fault = None,
                Err(error) => {
                    let text = format!("{error:#}");
                    if fault.as_ref() != Some(&text) {
                        tracing::warn!("cannot stand for election: {text}; retrying");
                    }
                    fault = Some(text);
                }
            }
            sleep(LOOK).await;
        }
    }

    /// Renews the Lease until that fails, and calls `confirmed` each time that it works.
    pub async fn keep(&mut self, mut confirmed: impl FnMut()) -> Lost {
        let mut renewed = Instant::now();
        loop {
            sleep(RENEW).await;
            let left = RENEW_MAX.saturating_sub(renewed.elapsed());
            match timeout(left, self.look(Duration::ZERO)).await {
                Ok(Ok(true)) => {
                    renewed = Instant::now();
                    confirmed();
                }
                Ok(Ok(false)) => return Lost::Other,
                Ok(Err(error)) if renewed.elapsed() >= RENEW_MAX => return Lost::Silence(error),
                Ok(Err(error)) => tracing::debug!("cannot renew the Lease: {error:#}"),
                Err(_) => {
                    return Lost::Silence(anyhow!("no answer in {} s", RENEW_MAX.as_secs()));
                }
            }
        }
    }

    /// Gives the Lease back, so that another replica need not wait for its end.
    pub async fn release(&mut self) -> Result<()> {
        let found = self.leases.get_opt(&self.lease).await.map_err(|error| plain(&error))?;
        let Some(mut lease) = found else { return Ok(()) };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_ref() != Some(&self.candidate.name) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        let result = self.leases.replace(&self.lease, &PostParams::default(), &lease).await;
        result.map(drop).map_err(|error| plain(&error)).context("cannot give the Lease back")
    }

    /// Returns the holder of the Lease, without standing for election; empty without one.
    pub async fn holder(&self) -> Result<String> {
        let found = self.leases.get_opt(&self.lease).await.map_err(|error| plain(&error))?;
        Ok(found.as_ref().map(record).unwrap_or_default().holder)
    }

    /// Looks at the Lease, and takes or renews it where the rules allow that. Returns true if this
    /// replica leads.
    async fn look(&mut self, patience: Duration) -> Result<bool> {
        let found = self.leases.get_opt(&self.lease).await.map_err(|error| plain(&error));
        let found = found.with_context(|| format!("cannot read the Lease {}", self.lease))?;
        let step = self.candidate.step(found.as_ref().map(record), self.start.elapsed(), patience);
        let result = match step {
            Step::Wait => return Ok(false),
            Step::Create => {
                let lease = self.lease(None, 0, None);
                self.leases.create(&PostParams::default(), &lease).await
            }
            Step::Write { transitions, version } => {
                let spec = found.and_then(|lease| lease.spec);
                let kept = spec.filter(|spec| spec.lease_transitions == Some(transitions));
                let lease = self.lease(Some(version), transitions, kept);
                self.leases.replace(&self.lease, &PostParams::default(), &lease).await
            }
        };
        match result {
            Ok(_) => Ok(true),
            // Another replica was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(plain(&error)).context("cannot write the Lease"),
        }
    }

    fn lease(&self, version: Option<String>, transitions: i32, kept: Option<LeaseSpec>) -> Lease {
        let now = Some(MicroTime(Timestamp::now()));
        let acquired = kept.and_then(|spec| spec.acquire_time).or_else(|| now.clone());
        Lease {
            metadata: ObjectMeta {
                name: Some(self.lease.clone()),
                resource_version: version,
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.candidate.name.clone()),
                lease_duration_seconds: i32::try_from(LEASE.as_secs()).ok(),
                lease_transitions: Some(transitions),
                acquire_time: acquired,
                renew_time: now,
                ..LeaseSpec::default()
            }),
        }
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Record {
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
        holder: spec.holder_identity.unwrap_or_default(),
        duration: seconds.map_or(LEASE, Duration::from_secs),
        transitions: spec.lease_transitions.unwrap_or_default(),
    }
}
