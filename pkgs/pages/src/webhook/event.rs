//! The body of a delivery → an event.

use serde_json::Value;

use crate::guard::url::GitUrl;
use crate::previews::reference::Reference;
use crate::webhook::forge::Forge;
use crate::webhook::pull;

/// The most branches of one push that are looked at. Forges send fewer.
const BRANCHES_MAX: usize = 100;

/// The start of a branch's full name.
const BRANCH: &str = "refs/heads/";

/// An event that concerns a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Branches have new commits or were deleted.
    Push {
        /// The repository, in every form in which the forge names it: see [`GitUrl::identity`].
        repositories: Vec<String>,
        /// The branches.
        branches: Vec<String>,
    },
    /// A pull request was opened, changed or closed.
    Pull {
        /// The repository that it is to be merged into, as for a push.
        repositories: Vec<String>,
        /// The head of the pull request; nothing at Bitbucket, which has no reference for it.
        reference: Option<Reference>,
        /// True if it was closed or merged.
        is_closed: bool,
    },
    /// The forge tests the webhook.
    Ping,
    /// An event that changes no branch.
    Other,
}

/// The reason why a body is not an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadBody {
    /// The body is not JSON.
    Json,
    /// A push names no repository or no branch, or a pull request no repository or no number.
    Fields,
}

impl std::fmt::Display for BadBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Json => "the body is not JSON; choose the content type application/json",
            Self::Fields => "the body names no repository with a branch or a pull request",
        })
    }
}

impl std::error::Error for BadBody {}

/// Reads the body of a delivery whose signature has been checked.
pub fn parse(forge: Forge, name: &str, body: &[u8]) -> Result<Event, BadBody> {
    match name {
        "ping" | "diagnostics:ping" => return Ok(Event::Ping),
        "push" | "Push Hook" | "repo:push" | "repo:refs_changed" => {}
        _ if pull::is_one(name) => return pulled(forge, name, body),
        _ => return Ok(Event::Other),
    }
    let body: Value = serde_json::from_slice(body).map_err(|_| BadBody::Json)?;
    let branches = match forge {
        Forge::Bitbucket => bitbucket_branches(&body),
        _ => body["ref"].as_str().map(str::to_owned).into_iter().collect(),
    };
    let names = branches.iter().take(BRANCHES_MAX);
    // Other references, such as tags, concern no site.
    let branches: Vec<String> =
        names.filter_map(|name| name.strip_prefix(BRANCH)).map(str::to_owned).collect();
    let repositories = repositories(&body);
    let has_reference = forge == Forge::Bitbucket || body["ref"].is_string();
    if repositories.is_empty() || !has_reference {
        return Err(BadBody::Fields);
    }
    if branches.is_empty() {
        return Ok(Event::Other);
    }
    Ok(Event::Push { repositories, branches })
}

/// Reads the body of an event about a pull request.
fn pulled(forge: Forge, name: &str, body: &[u8]) -> Result<Event, BadBody> {
    let body: Value = serde_json::from_slice(body).map_err(|_| BadBody::Json)?;
    let repositories = repositories(&body);
    let (reference, is_closed) = pull::read(forge, name, &body).ok_or(BadBody::Fields)?;
    if repositories.is_empty() {
        return Err(BadBody::Fields);
    }
    Ok(Event::Pull { repositories, reference, is_closed })
}

/// Returns the references of a push to Bitbucket. Cloud names branches without `refs/heads/`.
fn bitbucket_branches(body: &Value) -> Vec<String> {
    let data_center = body["changes"].as_array().into_iter().flatten();
    let data_center = data_center.filter_map(|change| change["ref"]["id"].as_str());
    let cloud = body["push"]["changes"].as_array().into_iter().flatten();
    let cloud = cloud.filter_map(|change| {
        let side = if change["new"].is_object() { &change["new"] } else { &change["old"] };
        (side["type"] == "branch").then(|| side["name"].as_str()).flatten()
    });
    let full = |name: &str| format!("{BRANCH}{name}");
    data_center.map(str::to_owned).chain(cloud.map(full)).collect()
}

/// The places at which forges name a repository.
const PLACES: [&str; 18] = [
    "/repository/clone_url",
    "/repository/ssh_url",
    "/repository/html_url",
    "/repository/git_http_url",
    "/repository/git_ssh_url",
    "/repository/homepage",
    "/project/git_http_url",
    "/project/git_ssh_url",
    "/project/web_url",
    "/repository/links/html/href",
    "/repository/links/clone/0/href",
    "/repository/links/clone/1/href",
    // The repository that a merge request of GitLab, or a pull request of Bitbucket, is to be merged into.
    "/object_attributes/target/git_http_url",
    "/object_attributes/target/git_ssh_url",
    "/object_attributes/target/web_url",
    "/pullRequest/toRef/repository/links/clone/0/href",
    "/pullRequest/toRef/repository/links/clone/1/href",
    "/pullrequest/destination/repository/links/html/href",
];

/// Returns the repository of an event, in every form in which the forge names it.
fn repositories(body: &Value) -> Vec<String> {
    let urls = PLACES.into_iter().filter_map(|place| body.pointer(place)?.as_str());
    let mut found: Vec<String> =
        urls.filter_map(|url| url.parse::<GitUrl>().ok()).map(|url| url.identity()).collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod pulls;
#[cfg(test)]
mod tests;
