//! A `StaticSite` as the syncer sees it, and the syncer's part of its status. Pure.

use std::time::Duration;

use kube::api::DynamicObject;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::api::{
    Condition, ConditionStatus, Group, KIND, Revision, SYNCED, SecretReference, StaticSiteSpec,
    StaticSiteStatus, interval, lifetime,
};
use crate::digest::Digest;
use crate::guard::url::{BadUrl, GitUrl};
use crate::key::SiteKey;
use crate::previews::label;
use crate::previews::reference::Reference;
use crate::previews::wish::Wish;
use crate::table::{Address, Pending};

/// The annotation that holds a site at an older revision: `previous`, or a digest.
pub const ROLLBACK: &str = "pages.kiln.local/rollback";

/// The annotation that names the Secret with the secret of the site's webhooks.
pub const WEBHOOK: &str = "pages.kiln.local/webhook-secret";

/// The annotation that names the Secret with the tokens of the site's uploads.
pub const UPLOAD: &str = "pages.kiln.local/upload-secret";

/// The most characters of a condition's message.
const MESSAGE_CHARS_MAX: usize = 1000;

/// A site, reduced to what the syncer needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// The site.
    pub key: SiteKey,
    /// The group of the object.
    pub group: Group,
    /// The object's uid.
    pub uid: String,
    /// The generation of the specification.
    pub generation: Option<i64>,
    /// True for a site without a repository, whose files are uploaded.
    pub is_upload: bool,
    /// The repository.
    pub url: Result<GitUrl, BadUrl>,
    /// The branch.
    pub branch: String,
    /// The only commit that may be published; nothing for the last one of the branch.
    pub commit: Option<String>,
    /// The folder, without slashes around it.
    pub folder: String,
    /// The Secret with the login.
    pub secret: Option<SecretReference>,
    /// The time between two looks at the repository.
    pub interval: Duration,
    /// The wish for an older revision.
    pub rollback: Option<String>,
    /// The Secret of the webhooks.
    pub webhook: Option<String>,
    /// The Secret with the tokens of uploads.
    pub upload: Option<String>,
    /// The wish for previews.
    pub previews: Option<Wish>,
    /// The address that the operator has granted.
    pub address: Option<Address>,
    /// The state.
    pub status: StaticSiteStatus,
}

impl Desired {
    /// Reduces an object; nothing if it is being deleted.
    ///
    /// A specification that cannot be read, perhaps of a later version, has no usable repository, so that
    /// the site keeps the page that it has.
    #[must_use]
    pub fn new(group: Group, object: &DynamicObject) -> Option<Self> {
        let metadata = &object.metadata;
        if metadata.deletion_timestamp.is_some() {
            return None;
        }
        let key = SiteKey::new(metadata.namespace.as_deref()?, metadata.name.as_deref()?).ok()?;
        let spec = StaticSiteSpec::deserialize(&object.data["spec"]);
        let url = spec.as_ref().map_err(|_| BadUrl::Unreadable).and_then(|spec| spec.repo.parse());
        let is_upload = spec.as_ref().is_ok_and(|spec| spec.repo.is_empty());
        let spec = spec.unwrap_or_default();
        let status = StaticSiteStatus::deserialize(&object.data["status"]).unwrap_or_default();
        let annotation = |name: &str| metadata.annotations.as_ref()?.get(name).cloned();
        Some(Self {
            key,
            group,
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation,
            is_upload,
            url,
            branch: spec.branch().to_owned(),
            commit: None,
            folder: spec.folder().to_owned(),
            interval: interval(&spec.sync_interval),
            rollback: annotation(ROLLBACK),
            webhook: annotation(WEBHOOK),
            upload: annotation(UPLOAD),
            previews: spec.previews.as_ref().filter(|_| group == Group::Kiln && !is_upload).map(
                |previews| Wish {
                    main: spec.branch().to_owned(),
                    branches: previews.branches.clone(),
                    pulls: previews.pull_requests,
                    forks: previews.forks,
                    lifetime: lifetime(&previews.lifetime),
                    max: usize::try_from(previews.max).unwrap_or(usize::MAX),
                },
            ),
            secret: spec.secret_ref,
            address: status.address.clone(),
            status,
        })
    }

    /// Returns a text that differs for each repository, branch and folder.
    #[must_use]
    pub fn source(&self) -> String {
        let url = self.url.as_ref().map(ToString::to_string).unwrap_or_default();
        json!([url, self.branch, self.folder]).to_string()
    }

    /// True if a change from another state needs a fetch at once.
    #[must_use]
    pub fn needs_fetch(&self, before: &Self) -> bool {
        (self.source(), &self.secret) != (before.source(), &before.secret)
    }

    /// Returns the previews that the status shows as published, and that have an address.
    pub fn published_previews(&self) -> impl Iterator<Item = Pending> + use<'_> {
        let shown = self.status.previews.iter().filter(|_| self.previews.is_some());
        shown.filter(|preview| preview.commit.is_some()).filter_map(|preview| {
            let site = label::key(&self.key, &preview.reference.parse().ok()?)?;
            Some(Pending { site, address: preview.address.clone()? })
        })
    }

    /// Returns what is fetched for a preview: this commit only, because a stranger may change a pull
    /// request after it was looked at.
    #[must_use]
    pub fn of_preview(&self, reference: &Reference, commit: &str) -> Option<Self> {
        let key = label::key(&self.key, reference)?;
        let (branch, commit) = (reference.to_string(), Some(commit.to_owned()));
        Some(Self { key, branch, commit, rollback: None, ..self.clone() })
    }

    /// Returns the wish for an older revision: nothing for the newest one, and no digest for the one
    /// before the current one. An unreadable wish is ignored.
    #[must_use]
    pub fn rollback(&self) -> Option<Option<Digest>> {
        match self.rollback.as_deref()? {
            "previous" => Some(None),
            text => text.parse().ok().map(Some),
        }
    }
}

/// The syncer's view of a site, for its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// True if the last commit is published.
    pub is_synced: bool,
    /// The reason: one word.
    pub reason: String,
    /// The message for people.
    pub message: String,
    /// The revision in force.
    pub revision: Option<Revision>,
    /// The revisions that are kept.
    pub revisions: Vec<Revision>,
    /// The time of the next attempt, after a failure.
    pub next_sync: Option<String>,
}

/// Returns the document for server-side apply, or nothing if the object shows all of it.
///
/// The uid makes the API server refuse it for another object of the same name.
#[must_use]
pub fn document(site: &Desired, report: &Report, now: &str) -> Option<Value> {
    let status = if report.is_synced { ConditionStatus::True } else { ConditionStatus::False };
    let old = site.status.condition(SYNCED);
    let since = old.filter(|old| old.status == status).map(|old| &old.last_transition_time);
    let condition = Condition {
        kind: SYNCED.to_owned(),
        status,
        reason: report.reason.clone(),
        message: report.message.chars().take(MESSAGE_CHARS_MAX).collect(),
        last_transition_time: since.map_or_else(|| now.to_owned(), Clone::clone),
        observed_generation: site.generation,
    };
    let shown = (&site.status.revision, &site.status.revisions);
    if old == Some(&condition) && shown == (&report.revision, &report.revisions) {
        return None;
    }
    let mut fields = json!({ "conditions": [condition] });
    if let Some(revision) = &report.revision {
        fields["revision"] = json!(revision);
    }
    if !report.revisions.is_empty() {
        fields["revisions"] = json!(report.revisions);
    }
    if let Some(next) = &report.next_sync {
        fields["nextSync"] = json!(next);
    }
    Some(json!({
        "apiVersion": site.group.api_version(),
        "kind": KIND,
        "metadata": {
            "name": site.key.name(), "namespace": site.key.namespace(), "uid": site.uid,
        },
        "status": fields,
    }))
}

#[cfg(test)]
mod tests {
    use super::{Desired, Report, document};
    use crate::api::Group;
    use crate::digest::Digest;
    use crate::guard::url::BadUrl;
    use serde_json::{Value, json};

    fn desired(spec: &Value, annotations: &Value) -> Option<Desired> {
        let object = json!({
            "apiVersion": "pages.kiln.local/v1beta1", "kind": "StaticSite",
            "metadata": { "name": "a", "namespace": "team", "uid": "u", "generation": 3,
                          "annotations": annotations },
            "spec": spec,
        });
        Desired::new(Group::Kiln, &serde_json::from_value(object).unwrap())
    }

    fn site() -> Desired {
        desired(&json!({ "repo": "https://git.test/a.git", "path": "/docs/" }), &json!({})).unwrap()
    }

    #[test]
    fn a_change_of_the_source_or_the_secret_needs_a_fetch() {
        let before = site();
        let repo = "https://git.test/a.git";
        let same =
            json!({ "repo": repo, "path": "docs", "syncInterval": "1h", "domain": "a.test" });
        assert!(!desired(&same, &json!({})).unwrap().needs_fetch(&before));
        for spec in [
            json!({ "repo": "https://git.test/b.git", "path": "/docs" }),
            json!({ "repo": repo, "path": "/docs", "branch": "next" }),
            json!({ "repo": repo }),
            json!({ "repo": repo, "path": "/docs", "secretRef": { "name": "s" } }),
        ] {
            assert!(desired(&spec, &json!({})).unwrap().needs_fetch(&before));
        }
        let strange = desired(&json!({ "repo": 7 }), &json!({})).unwrap();
        assert_eq!((strange.url, strange.is_upload), (Err(BadUrl::Unreadable), false));
        let upload = desired(&json!({}), &json!({})).unwrap();
        assert!(upload.is_upload && upload.needs_fetch(&before));
    }

    #[test]
    fn a_rollback_is_an_annotation() {
        let digest = Digest::of(b"1");
        let wish = |text: &str| {
            let annotations = json!({ "pages.kiln.local/rollback": text });
            desired(&json!({ "repo": "https://git.test/a" }), &annotations).unwrap().rollback()
        };
        assert_eq!(wish("previous"), Some(None));
        assert_eq!(wish(&digest.to_string()), Some(Some(digest)));
        assert_eq!((wish("HEAD~1"), site().rollback()), (None, None));
    }

    #[test]
    fn a_status_is_written_only_when_it_changes() {
        let report = Report {
            is_synced: false,
            reason: "TimedOut".to_owned(),
            message: "m".repeat(5000),
            revision: None,
            revisions: Vec::new(),
            next_sync: Some("2026-01-01T00:00:10Z".to_owned()),
        };
        let mut site = site();
        let written = document(&site, &report, "2026-01-01T00:00:00Z").unwrap();
        assert_eq!(written["metadata"]["uid"], "u");
        let condition = &written["status"]["conditions"][0];
        assert_eq!(
            (&condition["type"], &condition["observedGeneration"]),
            (&json!("Synced"), &json!(3))
        );
        site.status = serde_json::from_value(written["status"].clone()).unwrap();
        assert_eq!(document(&site, &report, "2026-01-01T00:05:00Z"), None);
        let other = Report { reason: "AccessDenied".to_owned(), ..report };
        let written = document(&site, &other, "2026-01-01T00:05:00Z").unwrap();
        let since = &written["status"]["conditions"][0]["lastTransitionTime"];
        assert_eq!(since, "2026-01-01T00:00:00Z", "the status is still False");
    }
}
