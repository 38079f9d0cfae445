//! Previews: from a branch or a pull request to a page and away again.

use std::collections::BTreeSet;

use kube::api::{DeleteParams, Patch, PatchParams};
use pages::previews::label;
use serde_json::{Value, json};

use crate::rig::{NAMESPACE, Rig, condition, site, until};
use crate::whole::{SECRET, TEAM, TOKEN, Whole};

/// The name of the site.
const SITE: &str = "shown";

/// Returns the host of a reference's preview.
fn host(reference: &str) -> String {
    let key = format!("{TEAM}/{SITE}").parse().unwrap();
    label::host(&key, &reference.parse().unwrap(), "pages.test")
}

/// Returns the names of the packs of the syncer and the server.
fn packs(whole: &Whole) -> BTreeSet<String> {
    let folders = ["syncer/packs/sha256", "server/packs"].map(|name| whole.path(name));
    let entries = folders.into_iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with('.')).collect()
}

fn push(whole: &Whole, branch: &str, text: &str) -> String {
    let files = [
        ("index.html", text),
        ("robots.txt", "User-agent: *\nAllow: /\n"),
        ("_headers", "/*\n  ! X-Robots-Tag\n  X-Robots-Tag: all\n"),
    ];
    whole.git.repository.lock().unwrap().push(branch, &files)
}

fn sync(whole: &Whole) {
    let path = format!("POST /sync/{TEAM}/{SITE}");
    assert_eq!(whole.request(&path, TOKEN), "HTTP/1.1 202 Accepted");
}

async fn until_shown(whole: &Whole, reference: &str, text: &str) {
    let host = host(reference);
    until(&format!("{host} shows {text}"), async || {
        sync(whole);
        whole.page_of(&host).1 == text
    })
    .await;
}

async fn until_gone(whole: &Whole, reference: &str) {
    let host = host(reference);
    until(&format!("{host} is gone"), async || whole.page_of(&host).0.contains("421")).await;
}

/// Returns the previews in the status.
async fn shown(rig: &Rig) -> Vec<Value> {
    let found = rig.sites(TEAM).get(SITE).await.unwrap();
    found.data["status"]["previews"].as_array().cloned().unwrap_or_default()
}

async fn change(rig: &Rig, previews: Value) {
    let patch = Patch::Merge(json!({ "spec": { "previews": previews } }));
    rig.sites(TEAM).patch(SITE, &PatchParams::default(), &patch).await.unwrap();
}

pub async fn previews_follow_branches_and_pull_requests(rig: &Rig, whole: &Whole) {
    wrong_wishes_are_refused(rig).await;
    let mut object = site(
        TEAM,
        SITE,
        &json!({ "repo": whole.git.url("localhost"), "previews": {
            "branches": ["feature/*"], "pullRequests": true, "lifetime": "1h" } }),
    );
    object["metadata"]["annotations"] = json!({ "pages.kiln.local/webhook-secret": "hook" });
    rig.apply(object).await;
    until("the site is served", async || {
        whole.page_of(&format!("{SITE}.{TEAM}.pages.test")).0.contains("200")
    })
    .await;
    a_branch_has_a_preview_that_search_engines_do_not_list(rig, whole).await;
    a_pull_request_of_the_repository_has_one_and_that_of_a_stranger_has_none(rig, whole).await;
    a_deleted_branch_leaves_nothing(rig, whole).await;
    the_oldest_goes_first_and_a_lifetime_ends(rig, whole).await;
    rig.sites(TEAM).delete(SITE, &DeleteParams::default()).await.unwrap();
}

async fn wrong_wishes_are_refused(rig: &Rig) {
    for (previews, expected) in [
        (json!({ "max": 51 }), "spec.previews.max"),
        (json!({ "lifetime": "soon" }), "spec.previews.lifetime"),
        (json!({ "forks": true }), "forks needs pullRequests"),
        (json!({ "branches": [""] }), "spec.previews.branches"),
    ] {
        let error = rig.try_apply(&site(TEAM, "refused", &json!({ "previews": previews }))).await;
        let text = error.unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
}

async fn a_branch_has_a_preview_that_search_engines_do_not_list(rig: &Rig, whole: &Whole) {
    let branch = "refs/heads/feature/a";
    assert!(whole.page_of(&host(branch)).0.contains("421"));
    push(whole, "feature/a", "preview one");
    until_shown(whole, branch, "preview one").await;
    for path in ["/", "/none", "/robots.txt"] {
        let answer = whole.answer_of(&host(branch), path);
        assert!(answer.contains("\r\nX-Robots-Tag: noindex, nofollow\r\n"), "{path}: {answer}");
    }
    assert!(whole.answer_of(&host(branch), "/robots.txt").ends_with("Disallow: /\n"));
    let main = whole.answer_of(&format!("{SITE}.{TEAM}.pages.test"), "/");
    assert!(!main.contains("noindex"), "{main}");
    let commit = push(whole, "feature/a", "preview two");
    until_shown(whole, branch, "preview two").await;
    until("the status shows it", async || {
        let shown = shown(rig).await;
        shown.len() == 1
            && shown[0]["commit"] == commit
            && shown[0]["ref"] == branch
            && shown[0]["url"] == format!("https://{}/", host(branch))
            && shown[0]["expires"].is_string()
    })
    .await;
    let found = rig.sites(TEAM).get(SITE).await.unwrap();
    assert_eq!(condition(&found, "Previewed")["status"], "True");
    let label = label::label(&format!("{TEAM}/{SITE}").parse().unwrap(), &branch.parse().unwrap());
    let ingress = rig.api("networking.k8s.io/v1", "Ingress", Some(NAMESPACE));
    let ingress = ingress.get(&format!("preview.{label}.{TEAM}.{SITE}")).await.unwrap();
    assert_eq!(ingress.data["spec"]["rules"][0]["host"], host(branch));
}

async fn a_pull_request_of_the_repository_has_one_and_that_of_a_stranger_has_none(
    rig: &Rig,
    whole: &Whole,
) {
    push(whole, "own", "pull request one");
    whole.git.repository.lock().unwrap().point("refs/pull/1/head", "own");
    push(whole, "stranger", "evil");
    whole.git.repository.lock().unwrap().point("refs/pull/2/head", "stranger");
    whole.git.repository.lock().unwrap().delete("stranger");
    let pull = "refs/pull/1/head";
    until_shown(whole, pull, "pull request one").await;
    push(whole, "own", "pull request two");
    whole.git.repository.lock().unwrap().point(pull, "own");
    until_shown(whole, pull, "pull request two").await;
    assert!(whole.page_of(&host("refs/pull/2/head")).0.contains("421"), "a stranger's content");
    let body = json!({
        "action": "closed", "number": 1,
        "repository": { "clone_url": whole.git.url("localhost") },
    });
    let body = body.to_string();
    let answer = whole.event(SITE, "pull_request", &body, "another secret of 16");
    assert_eq!(answer, "HTTP/1.1 401 Unauthorized");
    let answer = whole.event(SITE, "pull_request", &body, SECRET);
    assert_eq!(answer, "HTTP/1.1 202 Accepted");
    until_gone(whole, pull).await;
    // It stays closed, although its reference stays.
    sync(whole);
    until("the status does not show it", async || shown(rig).await.len() == 1).await;
}

async fn a_deleted_branch_leaves_nothing(rig: &Rig, whole: &Whole) {
    let branch = "refs/heads/feature/b";
    let before = packs(whole);
    push(whole, "feature/b", "a preview of its own");
    until_shown(whole, branch, "a preview of its own").await;
    let new: Vec<String> = packs(whole).difference(&before).cloned().collect();
    assert!(!new.is_empty());
    whole.git.repository.lock().unwrap().delete("feature/b");
    sync(whole);
    until_gone(whole, branch).await;
    until("its pack is gone", async || {
        let now = packs(whole);
        !new.iter().any(|name| now.contains(name))
    })
    .await;
    until("its route and its status are gone", async || {
        let ingress = rig.api("networking.k8s.io/v1", "Ingress", Some(NAMESPACE));
        let all = ingress.list(&kube::api::ListParams::default()).await.unwrap().items;
        let is_left = |host: &str| all.iter().any(|it| it.data["spec"]["rules"][0]["host"] == host);
        !is_left(&host(branch)) && shown(rig).await.len() == 1
    })
    .await;
}

async fn the_oldest_goes_first_and_a_lifetime_ends(rig: &Rig, whole: &Whole) {
    change(rig, json!({ "max": 1 })).await;
    // Ages are compared in seconds.
    until("a later second", async || {
        push(whole, "feature/c", "the newest");
        sync(whole);
        whole.page_of(&host("refs/heads/feature/c")).1 == "the newest"
            && whole.page_of(&host("refs/heads/feature/a")).0.contains("421")
    })
    .await;
    until("the condition says so", async || {
        let found = rig.sites(TEAM).get(SITE).await.unwrap();
        condition(&found, "Previewed")["reason"] == "TooMany"
    })
    .await;
    change(rig, json!({ "max": 10, "lifetime": "10s" })).await;
    until_gone(whole, "refs/heads/feature/c").await;
    until("no preview is left", async || shown(rig).await.is_empty()).await;
    push(whole, "feature/c", "again");
    until_shown(whole, "refs/heads/feature/c", "again").await;
    until_gone(whole, "refs/heads/feature/c").await;
    change(rig, Value::Null).await;
    until("the condition is gone", async || {
        let found = rig.sites(TEAM).get(SITE).await.unwrap();
        condition(&found, "Previewed").is_null() && shown(rig).await.is_empty()
    })
    .await;
}
