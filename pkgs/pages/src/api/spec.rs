//! The fields that users set. Their comments are the descriptions that `kubectl explain` shows.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A website from a branch of a git repository.
#[derive(
    CustomResource, Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema,
)]
#[kube(
    group = "pages.kiln.local",
    version = "v1beta1",
    kind = "StaticSite",
    plural = "staticsites",
    singular = "staticsite",
    shortname = "ss",
    shortname = "site",
    category = "pages",
    namespaced,
    status = "super::StaticSiteStatus",
    doc = "A website from a branch of a git repository.",
    printcolumn = r#"{"name":"URL","type":"string","jsonPath":".status.url"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason"}"#,
    printcolumn = r#"{"name":"Commit","type":"string","jsonPath":".status.revision.commit"}"#,
    printcolumn = r#"{"name":"Published","type":"date","jsonPath":".status.revision.time"}"#,
    printcolumn = r#"{"name":"Repo","type":"string","jsonPath":".spec.repo","priority":1}"#,
    printcolumn = r#"{"name":"Branch","type":"string","jsonPath":".spec.branch","priority":1}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.pathPrefix) || self.pathPrefix == '' || has(self.domain)",
    "message": "pathPrefix needs a domain; set domain, or remove pathPrefix",
}]))]
pub struct StaticSiteSpec {
    /// The URL of the git repository, such as `https://git.example/team/site.git`,
    /// `ssh://git@git.example/team/site.git` or `git@git.example:team/site.git`. Credentials belong into
    /// a Secret, never into the URL. A site without a repository gets its files by upload.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(
        length(min = 1, max = 2048),
        regex(
            pattern = r"^(https?://[^/@\s]+/\S+|ssh://[^\s]+/\S+|[A-Za-z0-9._-]+@[A-Za-z0-9.:\[\]-]+:\S+)$"
        )
    )]
    pub repo: String,

    /// The branch to publish.
    #[serde(default = "branch")]
    #[schemars(length(max = 255), extend("x-kubernetes-validations" = [{
        "rule": "!self.startsWith('-') && !self.contains('..')",
        "message": "branch must not start with - or contain ..",
    }]))]
    pub branch: String,

    /// The folder of the repository to publish, such as `/dist`.
    #[serde(default = "root")]
    #[schemars(length(max = 1024), regex(pattern = r"^(/.*)?$"), extend("x-kubernetes-validations" = [{
        "rule": "self.split('/').all(part, part != '..' && part != '.git')",
        "message": "path must not contain .. or .git",
    }]))]
    pub path: String,

    /// The path of the site below its domain, such as `/2019`. Several sites can share a domain in this
    /// way. The repository's files are served without it: `/2019/a.html` is the file `a.html`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), regex(pattern = r"^(/[a-zA-Z0-9._~-]+)*$"), extend("x-kubernetes-validations" = [{
        "rule": "self.split('/').all(part, part != '..' && part != '.')",
        "message": "pathPrefix must not contain . or .. as a segment",
    }]))]
    pub path_prefix: Option<String>,

    /// The domain of the site, in ASCII (punycode for other scripts). Without one the site has a name
    /// below the cluster's domain for pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 253),
        regex(
            pattern = r"^([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)+[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$"
        )
    )]
    pub domain: Option<String>,

    /// The Secret with the credentials of a private repository, in the namespace of the site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretReference>,

    /// The time between two looks at the repository, such as `30s`, `5m` or `1h30m`.
    #[serde(default = "sync_interval")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))*$"))]
    pub sync_interval: String,

    /// Previews of other branches and of pull requests, each at an address of its own below the
    /// cluster's domain for pages. Search engines are asked to stay away from them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previews: Option<Previews>,
}

/// The wanted previews.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.forks) || !self.forks || (has(self.pullRequests) && self.pullRequests)",
    "message": "forks needs pullRequests",
}]))]
pub struct Previews {
    /// Patterns of branches, such as `feature/*`; a star stands for any characters. The branch of the
    /// site itself has no preview.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 255)))]
    pub branches: Vec<String>,

    /// Preview pull requests (merge requests at GitLab) whose commit is the head of a branch of the
    /// repository itself.
    #[serde(default)]
    pub pull_requests: bool,

    /// Preview pull requests from other repositories, too. Their content comes from strangers, and is
    /// shown at an address of this cluster.
    #[serde(default)]
    pub forks: bool,

    /// The time for which a preview lives after its last commit, such as `72h`; 10 s to 90 days.
    #[serde(default = "lifetime")]
    #[schemars(
        length(min = 1, max = 32),
        regex(pattern = r"^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$")
    )]
    pub lifetime: String,

    /// The most previews of this site. The oldest goes first.
    #[serde(default = "previews_max")]
    #[schemars(range(min = 1, max = 50))]
    pub max: u32,
}

impl StaticSiteSpec {
    /// Returns the branch; an empty one means the default.
    #[must_use]
    pub fn branch(&self) -> &str {
        if self.branch.is_empty() { BRANCH } else { &self.branch }
    }

    /// Returns the folder in the repository, without leading and trailing slashes.
    #[must_use]
    pub fn folder(&self) -> &str {
        self.path.trim_matches('/')
    }
}

/// A reference to the Secret with the credentials of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct SecretReference {
    /// The name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// The key of the password or token in the Secret.
    #[serde(default = "password")]
    #[schemars(length(max = 253))]
    pub key: String,

    /// The user name. Without one it is the value of the Secret's key `username`, or `git`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub username: Option<String>,
}

/// The branch of a site that names none.
const BRANCH: &str = "main";

fn branch() -> String {
    BRANCH.to_owned()
}

fn root() -> String {
    "/".to_owned()
}

fn password() -> String {
    "password".to_owned()
}

fn lifetime() -> String {
    "168h".to_owned()
}

const fn previews_max() -> u32 {
    10
}

fn sync_interval() -> String {
    "5m".to_owned()
}
