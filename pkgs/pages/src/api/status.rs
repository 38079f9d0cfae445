//! The fields that the program sets.
//!
//! The operator writes `address`, `url`, and the conditions `Routed` and `Ready`; the syncer writes
//! `revision`, `revisions`, `nextSync` and the condition `Synced` (decision record 0015). Of a preview
//! the operator writes `address`, `url` and `refused`, and the syncer the rest (decision record 0016).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::table::Address;

/// The state of a site.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StaticSiteStatus {
    /// The name under which the site is served. Only the operator decides about names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,

    /// The address of the site for a browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,

    /// The revision that is published. It stays the last good one while fetching fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,

    /// The revisions that are kept, newest first. A rollback can name each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub revisions: Vec<Revision>,

    /// The time of the next look at the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub next_sync: Option<String>,

    /// The previews.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["ref"]))]
    pub previews: Vec<Preview>,

    /// `Synced`, `Routed` and `Ready`, and `Previewed` for a site with previews.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The most entries of [`StaticSiteStatus::revisions`], as its schema says.
pub const REVISIONS_MAX: usize = 20;

impl StaticSiteStatus {
    /// Returns the condition of this type.
    #[must_use]
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }
}

/// A published revision.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Revision {
    /// The name of the revision: `sha256:` and the hash of its pack.
    pub digest: String,

    /// The commit that was published.
    pub commit: String,

    /// The time at which it was published.
    #[schemars(extend("format" = "date-time"))]
    pub time: String,
}

/// A preview of a branch or a pull request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// The full name of the reference, such as `refs/heads/next` or `refs/pull/12/head`.
    #[serde(rename = "ref")]
    #[schemars(length(max = 255))]
    pub reference: String,

    /// The branch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,

    /// The number of the pull request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<u64>,

    /// The commit that is published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,

    /// The end of the preview's life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub expires: Option<String>,

    /// The cause for which the last commit could not be published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,

    /// The name under which the preview is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,

    /// The address of the preview for a browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,

    /// The cause for which the preview has no address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// The value of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ConditionStatus {
    /// The condition holds.
    True,
    /// The condition does not hold.
    False,
    /// Nothing is known yet.
    Unknown,
}

/// One aspect of the state, in the form of Kubernetes' API conventions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// The aspect.
    #[serde(rename = "type")]
    pub kind: String,

    /// The value.
    pub status: ConditionStatus,

    /// The cause as one word, for programs.
    pub reason: String,

    /// The cause in words, for people.
    pub message: String,

    /// The time of the last change of `status`.
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,

    /// The generation of the object that the condition is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}
