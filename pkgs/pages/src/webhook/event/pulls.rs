//! Events about pull requests, in the form of each forge.

use proptest::prelude::*;
use serde_json::json;

use super::{BadBody, Event, parse};
use crate::previews::reference::Reference;
use crate::webhook::forge::Forge;

/// Compares the reference of an event, and true for a closed request.
fn check(forge: Forge, name: &str, body: &serde_json::Value, expected: &(Option<Reference>, bool)) {
    let event = parse(forge, name, body.to_string().as_bytes());
    let Ok(Event::Pull { repositories, reference, is_closed }) = event else {
        panic!("{name}: {event:?}");
    };
    assert!(repositories.contains(&"git.example/team/site".to_owned()), "{repositories:?}");
    assert!(!repositories.iter().any(|one| one.contains("stranger")), "{repositories:?}");
    assert_eq!(&(reference, is_closed), expected, "{name}");
}

/// GitHub's and Forgejo's bodies, in the parts that matter: both name the repository that the request
/// comes from, too.
fn pull(action: &str) -> serde_json::Value {
    json!({
        "action": action, "number": 12,
        "pull_request": {
            "id": 279_147_437, "number": 12, "state": "open", "merged": false,
            "html_url": "https://git.example/team/site/pull/12",
            "head": { "ref": "changes", "sha": "ec26c3e57ca3a959ca5aad62de7213c562f8c821",
                      "repo": { "clone_url": "https://git.example/stranger/site.git" } },
            "base": { "ref": "main", "sha": "f95f852bd8fca8fcc58a9a2d6c842781e32a215e",
                      "repo": { "clone_url": "https://git.example/team/site.git" } },
        },
        "repository": {
            "full_name": "team/site", "clone_url": "https://git.example/team/site.git",
            "ssh_url": "git@git.example:team/site.git",
            "html_url": "https://git.example/team/site",
        },
        "sender": { "login": "someone" },
    })
}

#[test]
fn github_forgejo_and_gitea_name_the_number_and_the_action() {
    let request = Some(Reference::Pull(12));
    for forge in [Forge::GitHub, Forge::Forgejo, Forge::Gitea] {
        for (action, is_closed) in [
            ("opened", false),
            ("reopened", false),
            ("synchronize", false),
            ("synchronized", false),
            ("closed", true),
        ] {
            check(forge, "pull_request", &pull(action), &(request.clone(), is_closed));
        }
    }
    check(Forge::Gitea, "pull_request_sync", &pull("synchronized"), &(request, false));
}

#[test]
fn gitlab_names_the_request_by_its_number_within_the_project() {
    let body = |action: &str| {
        json!({
            "object_kind": "merge_request", "event_type": "merge_request",
            "project": { "id": 1, "web_url": "https://git.example/team/site",
                         "git_ssh_url": "git@git.example:team/site.git",
                         "git_http_url": "https://git.example/team/site.git" },
            "object_attributes": {
                "id": 99, "iid": 7, "action": action, "state": "opened",
                "source_branch": "ms-viewport", "target_branch": "main",
                "source": { "git_http_url": "https://git.example/stranger/site.git" },
                "target": { "git_http_url": "https://git.example/team/site.git" },
                "last_commit": { "id": "da1560886d4f094c3e6c9ef40349f7d38b5d27d7" },
            },
        })
    };
    for (action, is_closed) in
        [("open", false), ("update", false), ("reopen", false), ("close", true), ("merge", true)]
    {
        let expected = (Some(Reference::Merge(7)), is_closed);
        check(Forge::GitLab, "Merge Request Hook", &body(action), &expected);
    }
}

#[test]
fn bitbucket_has_no_reference_but_says_that_something_happened() {
    let cloud = json!({
        "repository": { "links": { "html": { "href": "https://git.example/team/site" } } },
        "pullrequest": {
            "id": 1, "state": "OPEN",
            "source": { "branch": { "name": "next" }, "repository": { "links": {
                "html": { "href": "https://git.example/stranger/site" } } } },
            "destination": { "branch": { "name": "main" }, "repository": { "links": {
                "html": { "href": "https://git.example/team/site" } } } },
        },
    });
    for (name, is_closed) in [
        ("pullrequest:created", false),
        ("pullrequest:updated", false),
        ("pullrequest:fulfilled", true),
        ("pullrequest:rejected", true),
    ] {
        check(Forge::Bitbucket, name, &cloud, &(None, is_closed));
    }
    let data_center = json!({
        "eventKey": "pr:opened",
        "pullRequest": {
            "id": 1, "open": true,
            "fromRef": { "id": "refs/heads/next", "repository": { "links": { "clone": [
                { "href": "https://git.example/stranger/site.git", "name": "http" }] } } },
            "toRef": { "id": "refs/heads/main", "repository": { "links": { "clone": [
                { "href": "https://git.example/team/site.git", "name": "http" }] } } },
        },
    });
    check(Forge::Bitbucket, "pr:opened", &data_center, &(None, false));
    check(Forge::Bitbucket, "pr:merged", &data_center, &(None, true));
}

#[test]
fn malformed_bodies_are_refused() {
    for (body, expected) in [
        ("{", BadBody::Json),
        ("{}", BadBody::Fields),
        (r#"{"number":1}"#, BadBody::Fields),
        (r#"{"number":"1","repository":{"clone_url":"https://a.example/b"}}"#, BadBody::Fields),
        (r#"{"number":0,"repository":{"clone_url":"https://a.example/b"}}"#, BadBody::Fields),
        (r#"{"number":-1,"repository":{"clone_url":"https://a.example/b"}}"#, BadBody::Fields),
    ] {
        assert_eq!(parse(Forge::GitHub, "pull_request", body.as_bytes()), Err(expected), "{body}");
    }
}

proptest! {
    #[test]
    fn no_body_panics(name in "pull_request|pr:opened|Merge Request Hook", body in "\\PC{0,60}") {
        for forge in [Forge::GitHub, Forge::GitLab, Forge::Bitbucket] {
            drop(parse(forge, &name, body.as_bytes()));
        }
    }
}
