//! The subcommands for people: they ask and act with the rights of the person's kubeconfig.
//!
//! | module | content | touches |
//! | --- | --- | --- |
//! | [`options`] | command lines | nothing |
//! | [`revision`] | a person's name of a revision → its digest | nothing |
//! | [`text`] | sites → a table, one site → everything about it | nothing |
//! | [`calls`] | sites and the annotation of a rollback | the API server |

pub mod calls;
pub mod options;
pub mod revision;
pub mod text;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::jiff::Timestamp;
use kiln_daemon::exit::Exit;
use tokio::time::{Instant, sleep};

use crate::api::Site;
use crate::key::SiteKey;
use crate::table::Address;
use calls::Calls;
use options::{Rollback, Status, Wish};

/// The longest wait for the syncer to act on a rollback.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The time between two looks at the status.
const LOOK: Duration = Duration::from_millis(250);

/// Prints the state of all sites, or of one. Returns false if one of them is not ready.
pub fn status(arguments: &[OsString]) -> Result<bool> {
    match options::status(arguments)? {
        options::Parsed::Help(text) => {
            print!("{text}");
            Ok(true)
        }
        options::Parsed::Act(status) => block(show(&status)),
    }
}

/// Brings an older revision of a site into force, or ends that.
pub fn rollback(arguments: &[OsString]) -> Result<()> {
    match options::rollback(arguments)? {
        options::Parsed::Help(text) => {
            print!("{text}");
            Ok(())
        }
        options::Parsed::Act(rollback) => block(roll(&rollback)),
    }
}

/// Turns the end of a verb into an exit status: 1 for the answer no. An error is written for a person,
/// with its lines, and not as a line of a log.
#[must_use]
pub fn end(result: Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("pages: {error:#}");
            Exit::of(&error).into()
        }
    }
}

fn block<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(work)
}

async fn show(status: &Status) -> Result<bool> {
    let calls = Calls::new(&status.access).await?;
    let now = Timestamp::now();
    let sites = if let Some(key) = &status.site {
        let (_, site) = find(&calls, key).await?;
        print!("{}", text::one(&site, now));
        vec![site]
    } else {
        let sites = calls.sites(status.namespace.as_deref()).await?;
        print!("{}", text::table(&sites, now));
        sites
    };
    Ok(sites.iter().all(text::is_ready))
}

/// Returns a site with its group; an error names the other sites of the namespace.
async fn find(calls: &Calls, key: &SiteKey) -> Result<(crate::api::Group, Site)> {
    if let Some(found) = calls.site(key).await? {
        return Ok(found);
    }
    let others = calls.sites(Some(key.namespace())).await.unwrap_or_default();
    let names: Vec<String> = others.iter().filter_map(|site| site.metadata.name.clone()).collect();
    if names.is_empty() {
        bail!("there is no StaticSite {key}, and none in its namespace; `pages status` lists all");
    }
    bail!("there is no StaticSite {key}; its namespace has {}", names.join(", "))
}

async fn roll(rollback: &Rollback) -> Result<()> {
    let calls = Calls::new(&rollback.access).await?;
    let (group, site) = find(&calls, &rollback.site).await?;
    let known = site.status.clone().unwrap_or_default();
    let (annotation, expected) = match &rollback.wish {
        Wish::End => (None, known.revisions.first().cloned()),
        Wish::To(name) => {
            let revision = revision::resolve(name.as_deref(), &known)
                .with_context(|| format!("cannot roll {} back", rollback.site))?;
            (Some(revision.digest.clone()), Some(revision.clone()))
        }
    };
    calls.annotate(group, &rollback.site, annotation.as_deref()).await?;
    let Some(expected) = expected else {
        println!("{} has no revision yet; it will show the newest one", rollback.site);
        return Ok(());
    };
    let end = Instant::now() + WAIT_MAX;
    loop {
        let (_, site) = find(&calls, &rollback.site).await?;
        let status = site.status.clone().unwrap_or_default();
        if status.revision.as_ref().is_some_and(|one| one.digest == expected.digest) {
            break;
        }
        if Instant::now() > end {
            bail!(
                "the wish is written, but the syncer has not acted on it in {} s; \
                 `pages status {}` shows the state",
                WAIT_MAX.as_secs(),
                rollback.site
            );
        }
        sleep(LOOK).await;
    }
    let place = known.address.map(|Address { host, prefix }| format!(" at {host}{prefix}/"));
    println!("{} shows {}{}", rollback.site, expected.commit, place.unwrap_or_default());
    match rollback.wish {
        Wish::End => println!("new commits come into force again"),
        Wish::To(_) => {
            println!("new commits wait until `pages rollback {} --end`", rollback.site);
        }
    }
    Ok(())
}
