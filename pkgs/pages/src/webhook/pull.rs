//! The body of a delivery about a pull request → its head and its state.
//!
//! | forge | event | number | closed |
//! | --- | --- | --- | --- |
//! | GitHub | `pull_request` | `number` | `action` is `closed` |
//! | Forgejo, Gitea | `pull_request`, `pull_request_sync` | `number` | `action` is `closed` |
//! | GitLab | `Merge Request Hook` | `object_attributes.iid` | `object_attributes.action` is `close` or `merge` |
//! | Bitbucket Cloud | `pullrequest:…` | | `pullrequest:fulfilled`, `pullrequest:rejected` |
//! | Bitbucket Data Center | `pr:…` | | `pr:merged`, `pr:declined`, `pr:deleted` |

use serde_json::Value;

use super::forge::Forge;
use crate::previews::reference::Reference;

/// True for the name of an event about a pull request that can change its commit or its state.
#[must_use]
pub(super) fn is_one(name: &str) -> bool {
    matches!(
        name,
        "pull_request"
            | "pull_request_sync"
            | "Merge Request Hook"
            | "pullrequest:created"
            | "pullrequest:updated"
            | "pullrequest:fulfilled"
            | "pullrequest:rejected"
            | "pr:opened"
            | "pr:from_ref_updated"
            | "pr:merged"
            | "pr:declined"
            | "pr:deleted"
    )
}

/// Reads the head of the pull request, and true if it was closed; nothing if the body has no number.
pub(super) fn read(forge: Forge, name: &str, body: &Value) -> Option<(Option<Reference>, bool)> {
    let number = |value: &Value| value.as_u64().filter(|number| *number > 0);
    let is_over = |action: &Value| matches!(action.as_str(), Some("closed" | "close" | "merge"));
    Some(match forge {
        Forge::GitLab => {
            let request = &body["object_attributes"];
            (Some(Reference::Merge(number(&request["iid"])?)), is_over(&request["action"]))
        }
        Forge::Bitbucket => {
            let is_open =
                ["pullrequest:created", "pullrequest:updated", "pr:opened", "pr:from_ref_updated"];
            (None, !is_open.contains(&name))
        }
        _ => (Some(Reference::Pull(number(&body["number"])?)), is_over(&body["action"])),
    })
}
