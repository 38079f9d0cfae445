//! The outcome of a fetch, an upload or a rollback → the site's status, counters and the log.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::api::{ConditionStatus, REVISIONS_MAX, ROLLED_BACK, Revision, SYNCED};
use crate::publish::manifest::{self, Manifest};
use crate::syncer::cluster::{Cluster, MANAGER};
use crate::syncer::desired::{Desired, Report, document};
use crate::syncer::event::event;
use crate::syncer::metrics::{Metrics, add};
use crate::syncer::shared::{Shared, now};
use crate::syncer::work::Outcome;

/// The reason of a site whose last commit is published.
const PUBLISHED: &str = "Published";

/// The reason of a site that has no revision and needs an upload.
const NOTHING: &str = "NothingUploaded";

/// The reason of a site whose uploaded files are on servers only.
const LOST: &str = "UploadLost";

/// Counts and logs an outcome, and writes it to the status if that changes.
pub async fn report(
    shared: &Shared,
    cluster: &Cluster,
    site: &Desired,
    outcome: &Outcome,
    due: Option<Duration>,
) {
    count(&shared.metrics, site, outcome);
    let manifest = shared.store.manifest(&site.key);
    let Some(report) = describe(site, outcome, manifest.as_ref(), due) else { return };
    if let Some(event) = event(site.status.condition(SYNCED), outcome, &report)
        && shared.inner().events.allows(&site.key, now())
    {
        cluster.event(site, &event).await;
    }
    let Some(document) = document(site, &report, &date(now())) else { return };
    if let Err(error) = cluster.write(site, MANAGER, &document).await {
        tracing::warn!(site = %site.key, "{error:#}");
    }
}

fn count(metrics: &Metrics, site: &Desired, outcome: &Outcome) {
    match outcome {
        Outcome::Outdated | Outcome::Rolled | Outcome::Idle | Outcome::Removed => {}
        Outcome::Unchanged => add(&metrics.unchanged, 1),
        Outcome::Published(_) => {
            add(&metrics.published, 1);
            tracing::info!(site = %site.key, "published");
        }
        Outcome::Failed { reason, message } => {
            metrics.fails(reason);
            tracing::warn!(site = %site.key, reason, "cannot publish: {message}");
        }
    }
}

/// Returns the syncer's view of a site; nothing if it has none to write.
fn describe(
    site: &Desired,
    outcome: &Outcome,
    manifest: Option<&Manifest>,
    due: Option<Duration>,
) -> Option<Report> {
    let newest = manifest.and_then(Manifest::newest);
    let commit = newest.map(|newest| newest.commit.clone()).unwrap_or_default();
    let old = site.status.condition(SYNCED);
    let (is_synced, reason, text) = match outcome {
        Outcome::Outdated => return None,
        // Only a rollback has changed, so the rest stays as it is.
        Outcome::Rolled => {
            let old = old?;
            (old.status == ConditionStatus::True, old.reason.clone(), details(&old.message))
        }
        Outcome::Idle => idle(site, manifest),
        Outcome::Removed => {
            (false, NOTHING.to_owned(), "the revisions were removed on request".to_owned())
        }
        Outcome::Unchanged => {
            let old = old.filter(|old| old.status == ConditionStatus::True);
            let text = old.map_or_else(|| commit.clone(), |old| details(&old.message));
            (true, PUBLISHED.to_owned(), text)
        }
        Outcome::Published(notes) => {
            (true, PUBLISHED.to_owned(), [vec![commit], notes.lines()].concat().join("\n"))
        }
        Outcome::Failed { reason, message } => (false, (*reason).to_owned(), message.clone()),
    };
    let reason = match (is_synced, manifest.is_some_and(|manifest| manifest.pinned)) {
        (false, _) => reason,
        (true, true) => ROLLED_BACK.to_owned(),
        (true, false) => PUBLISHED.to_owned(),
    };
    let message = match refusal(site, manifest) {
        Some(refusal) => format!("{ROLLBACK_FAILED}{refusal}\n{text}"),
        None => text,
    };
    // A syncer with a new disk knows no revision, but the servers may still have the last one.
    let is_lost = manifest.is_none() && !matches!(outcome, Outcome::Removed) || reason == LOST;
    let lost = is_lost.then(|| site.status.revision.clone()).flatten();
    let current = manifest.and_then(Manifest::current).map(shown);
    Some(Report {
        is_synced,
        reason,
        message,
        revision: lost.or(current),
        revisions: manifest.map(listed).unwrap_or_default(),
        next_sync: due.filter(|_| !is_synced && !site.is_upload).map(date),
    })
}

/// Returns the state of a site that waits for an upload.
fn idle(site: &Desired, manifest: Option<&Manifest>) -> (bool, String, String) {
    let old = site.status.condition(SYNCED);
    let old = old.filter(|old| ![NOTHING, LOST].contains(&old.reason.as_str()));
    // The last upload may have been lost with a syncer that led before.
    let has = |digest: &str| {
        let all = manifest.iter().flat_map(|manifest| &manifest.revisions);
        all.into_iter().any(|one| one.digest.to_string() == digest)
    };
    let is_here = site.status.revision.as_ref().is_none_or(|shown| has(&shown.digest));
    match (manifest.and_then(Manifest::newest).filter(|_| is_here), old) {
        (Some(_), Some(old)) => {
            (old.status == ConditionStatus::True, old.reason.clone(), details(&old.message))
        }
        (Some(newest), None) => (true, PUBLISHED.to_owned(), newest.commit.clone()),
        (None, _) if site.status.revision.is_some() => {
            let text = "the syncer has lost the uploaded files, and servers show the copies that they \
                        have; upload the files again";
            (false, LOST.to_owned(), text.to_owned())
        }
        (None, _) => {
            (false, NOTHING.to_owned(), format!("upload an archive by PUT /site/{}", site.key))
        }
    }
}

/// The start of the line about a rollback that is impossible.
const ROLLBACK_FAILED: &str = "cannot roll back: ";

/// Returns a message without its line about a rollback.
fn details(message: &str) -> String {
    match message.strip_prefix(ROLLBACK_FAILED).and_then(|rest| rest.split_once('\n')) {
        Some((_, rest)) => rest.to_owned(),
        None => message.to_owned(),
    }
}

/// Returns the reason why the site's wish for an older revision is not fulfilled.
fn refusal(site: &Desired, manifest: Option<&Manifest>) -> Option<String> {
    let wish = site.rollback.as_ref()?;
    let manifest = manifest?;
    match site.rollback() {
        None => Some(format!(
            "the annotation has {:?}; write a digest of status.revisions, or previous",
            wish.chars().take(80).collect::<String>()
        )),
        Some(None) if manifest.pinned => None,
        Some(Some(digest)) if manifest.pinned && manifest.current == digest => None,
        Some(to) => manifest.clone().rollback(to).err().map(|none| none.to_string()),
    }
}

/// Returns the newest revisions, and the one in force if it is older.
fn listed(manifest: &Manifest) -> Vec<Revision> {
    let all = manifest.revisions.iter().enumerate();
    let wanted = all.filter(|(number, revision)| {
        *number < REVISIONS_MAX - 1 || revision.digest == manifest.current
    });
    wanted.take(REVISIONS_MAX).map(|(_, revision)| shown(revision)).collect()
}

fn shown(revision: &manifest::Revision) -> Revision {
    Revision {
        digest: revision.digest.to_string(),
        commit: revision.commit.clone(),
        time: date(Duration::from_secs(revision.time)),
    }
}

/// Formats a time since 1970 as in RFC 3339.
#[must_use]
pub fn date(time: Duration) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(0);
    Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::{Outcome, describe};
    use crate::api::{Group, REVISIONS_MAX};
    use crate::digest::Digest;
    use crate::publish::manifest::{Manifest, Revision};
    use crate::publish::note::{Note, Notes};
    use crate::syncer::desired::{Desired, document};
    use serde_json::{Value, json};
    use std::time::Duration;

    fn site(rollback: &str, status: &Value) -> Desired {
        let object = json!({
            "apiVersion": "pages.kiln.local/v1beta1", "kind": "StaticSite",
            "metadata": { "name": "a", "namespace": "team", "uid": "u",
                          "annotations": { "pages.kiln.local/rollback": rollback } },
            "spec": { "repo": "https://git.test/a.git" }, "status": status,
        });
        Desired::new(Group::Kiln, &serde_json::from_value(object).unwrap()).unwrap()
    }

    fn revision(number: u8) -> Revision {
        Revision {
            digest: Digest::of(&[number]),
            bytes: 1,
            files: 1,
            commit: format!("commit-{number}"),
            source: String::new(),
            time: u64::from(number),
        }
    }

    fn manifest(numbers: u8) -> Manifest {
        let mut manifest = Manifest::new(revision(0));
        (1..numbers).for_each(|number| manifest.publish(revision(number), 100));
        manifest
    }

    #[test]
    fn a_rollback_keeps_the_notes_and_its_end_restores_the_reason() {
        let mut notes = Notes::default();
        notes.add(b"/a", &Note::Lfs);
        let mut known = manifest(2);
        let published = Outcome::Published(notes);
        let first = describe(&site("previous", &json!({})), &published, Some(&known), None);
        let first = first.unwrap();
        assert!(first.message.starts_with("commit-1\n/a is a pointer"), "{}", first.message);
        let written = document(&site("", &json!({})), &first, "2026-01-01T00:00:00Z").unwrap();
        let site = site("previous", &written["status"]);
        known.rollback(None).unwrap();
        let held = describe(&site, &Outcome::Rolled, Some(&known), None).unwrap();
        assert_eq!((held.reason.as_str(), &held.message), ("RolledBack", &first.message));
        assert_eq!(held.revision.unwrap().commit, "commit-0");
        known.resume();
        let after = describe(&site, &Outcome::Unchanged, Some(&known), None).unwrap();
        assert_eq!((after.reason.as_str(), &after.message), ("Published", &first.message));
    }

    #[test]
    fn an_impossible_rollback_says_why_once() {
        let known = manifest(1);
        let status = |message: &str| {
            json!({ "conditions": [{ "type": "Synced", "status": "True", "reason": "Published",
                "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z" }] })
        };
        for (wish, expected) in [
            ("previous", "the site has no older revision"),
            ("HEAD~1", "write a digest of status.revisions"),
            (&Digest::of(b"other").to_string(), "the site has no revision sha256:"),
        ] {
            let mut message = "commit-0".to_owned();
            for _ in 0..2 {
                let site = site(wish, &status(&message));
                message = describe(&site, &Outcome::Unchanged, Some(&known), None).unwrap().message;
            }
            assert!(message.contains(expected) && message.ends_with("\ncommit-0"), "{message}");
            assert_eq!(message.matches("cannot roll back").count(), 1);
        }
    }

    #[test]
    fn the_list_of_revisions_is_bounded_and_has_the_one_in_force() {
        let mut known = manifest(50);
        known.rollback(Some(Digest::of(&[0]))).unwrap();
        let report = describe(&site("", &json!({})), &Outcome::Unchanged, Some(&known), None);
        let revisions = report.unwrap().revisions;
        assert_eq!(revisions.len(), REVISIONS_MAX);
        assert_eq!(revisions[0].commit, "commit-49");
        assert_eq!(revisions[REVISIONS_MAX - 1].commit, "commit-0");
    }

    #[test]
    fn a_site_without_a_repository_waits_for_uploads() {
        let state = |status: &Value, manifest: Option<&Manifest>| {
            let mut site = site("", status);
            site.is_upload = true;
            site.rollback = None;
            let report = describe(&site, &Outcome::Idle, manifest, Some(Duration::ZERO)).unwrap();
            assert_eq!(report.next_sync, None);
            (report.is_synced, report.reason, report.revision.map(|one| one.commit))
        };
        let shown = json!({ "revision": { "digest": "sha256:0", "commit": "c", "time": "t" } });
        assert_eq!(state(&json!({}), None), (false, "NothingUploaded".to_owned(), None));
        let lost = (false, "UploadLost".to_owned(), Some("c".to_owned()));
        assert_eq!(state(&shown, None), lost);
        let known = manifest(1);
        assert_eq!(
            state(&shown, Some(&known)),
            (false, "UploadLost".to_owned(), Some("c".to_owned()))
        );
        let published = (true, "Published".to_owned(), Some("commit-0".to_owned()));
        assert_eq!(state(&json!({}), Some(&known)), published);
        let mut site = site("", &shown);
        site.is_upload = true;
        let removed = describe(&site, &Outcome::Removed, None, None).unwrap();
        assert_eq!((removed.is_synced, removed.revision), (false, None));
    }

    #[test]
    fn a_lost_disk_keeps_the_revision_in_the_status() {
        let revision = json!({ "digest": "sha256:0", "commit": "c", "time": "t" });
        let site = site("previous", &json!({ "revision": revision }));
        let failed = Outcome::Failed { reason: "TimedOut", message: "late".to_owned() };
        let report = describe(&site, &failed, None, None).unwrap();
        assert_eq!(report.revision.unwrap().commit, "c");
    }
}
