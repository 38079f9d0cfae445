use proptest::prelude::*;

use super::{BadBody, Event, parse};
use crate::webhook::forge::Forge;

fn push(forge: Forge, name: &str, body: &str) -> Result<(String, String), BadBody> {
    match parse(forge, name, body.as_bytes())? {
        Event::Push { repositories, branches } => Ok((repositories.join(" "), branches.join(" "))),
        other => Ok((format!("{other:?}"), String::new())),
    }
}

fn check(forge: Forge, name: &str, body: &str, repositories: &str, branches: &str) {
    let expected = (repositories.to_owned(), branches.to_owned());
    assert_eq!(push(forge, name, body), Ok(expected), "{forge:?}");
}

#[test]
fn pushes_of_all_forges_name_repository_and_branch() {
    let body = r#"{"ref":"refs/heads/feature/a","deleted":false,"repository":{
        "clone_url":"https://github.com/Team/site.git","ssh_url":"git@github.com:Team/site.git",
        "html_url":"https://github.com/Team/site","full_name":"Team/site"}}"#;
    check(Forge::GitHub, "push", body, "github.com/team/site", "feature/a");
    check(Forge::Forgejo, "push", body, "github.com/team/site", "feature/a");
    check(Forge::Gitea, "push", body, "github.com/team/site", "feature/a");
    let body = r#"{"object_kind":"push","ref":"refs/heads/main","project":{
        "git_http_url":"https://git.example/team/site.git",
        "git_ssh_url":"ssh://git@git.example:2222/team/site.git",
        "web_url":"https://git.example/team/site"}}"#;
    let both = "git.example/team/site git.example:2222/team/site";
    check(Forge::GitLab, "Push Hook", body, both, "main");
    let body = r#"{"push":{"changes":[
        {"new":{"type":"branch","name":"main"},"old":null},
        {"new":{"type":"tag","name":"v1"}},
        {"new":null,"old":{"type":"branch","name":"gone"}}]},
        "repository":{"full_name":"team/site","links":{"html":{"href":"https://b.example/team/site"}}}}"#;
    check(Forge::Bitbucket, "repo:push", body, "b.example/team/site", "main gone");
    let body = r#"{"changes":[{"ref":{"id":"refs/heads/main"}},{"ref":{"id":"refs/tags/v1"}}],
        "repository":{"links":{"clone":[{"href":"https://b.example/scm/team/site.git","name":"http"},
        {"href":"ssh://git@b.example:7999/team/site.git","name":"ssh"}]}}}"#;
    let both = "b.example/scm/team/site b.example:7999/team/site";
    check(Forge::Bitbucket, "repo:refs_changed", body, both, "main");
}

#[test]
fn other_events_cause_nothing() {
    check(Forge::GitHub, "ping", "", "Ping", "");
    check(Forge::Bitbucket, "diagnostics:ping", "{}", "Ping", "");
    check(Forge::GitHub, "issues", "no json", "Other", "");
    check(Forge::GitLab, "Tag Push Hook", "{}", "Other", "");
    let tag = r#"{"ref":"refs/tags/v1","repository":{"clone_url":"https://git.example/a"}}"#;
    check(Forge::GitHub, "push", tag, "Other", "");
}

#[test]
fn malformed_pushes_are_refused() {
    let check = |body: &str, expected| assert_eq!(push(Forge::GitHub, "push", body), Err(expected));
    check("payload=%7B%7D", BadBody::Json);
    check("{}", BadBody::Fields);
    check(r#"{"ref":"refs/heads/main"}"#, BadBody::Fields);
    check(r#"{"ref":7,"repository":{"clone_url":"https://git.example/a"}}"#, BadBody::Fields);
    check(r#"{"ref":"refs/heads/main","repository":{"clone_url":"file:///a"}}"#, BadBody::Fields);
    check(&"[".repeat(100_000), BadBody::Json);
}

proptest! {
    #[test]
    fn no_body_causes_a_panic(body in "[\\[\\]{}:,\"a-z0-9 ]{0,80}|\\PC{0,80}") {
        for forge in [Forge::GitHub, Forge::GitLab, Forge::Bitbucket] {
            let _ = parse(forge, "push", body.as_bytes());
        }
    }
}
