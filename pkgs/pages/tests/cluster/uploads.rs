//! Sites without a repository: an archive becomes a page.

use std::net::SocketAddr;

use kiln_test_support::client::talk;
use pages::api::Group;
use serde_json::{Value, json};

use crate::rig::{Rig, condition, until};
use crate::verbs::expect;
use crate::whole::{TEAM, TOKEN, Whole, status};

/// The tokens of the site: an old one and a new one.
const TOKENS: &str = "the old token of the site\nthe new token of the site\n";

/// Returns a tar archive of one page.
pub fn archive(page: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(page.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "./index.html", page.as_bytes()).unwrap();
    builder.into_inner().unwrap()
}

/// Uploads bytes; returns the status line and the whole answer.
fn put(whole: &Whole, name: &str, token: &str, bytes: &[u8]) -> (String, String) {
    upload(whole.api, &format!("{TEAM}/{name}"), token, bytes)
}

/// Uploads bytes to a syncer; returns the status line and the whole answer.
pub fn upload(api: SocketAddr, site: &str, token: &str, bytes: &[u8]) -> (String, String) {
    let length = bytes.len();
    let head = format!(
        "PUT /site/{site} HTTP/1.1\r\nHost: {api}\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let answer = talk(api, &[head.as_bytes(), bytes].concat());
    (status(&answer), String::from_utf8_lossy(&answer).into_owned())
}

async fn synced(rig: &Rig, name: &str) -> Value {
    condition(&rig.sites(TEAM).get(name).await.unwrap(), "Synced")
}

pub async fn an_archive_becomes_a_page(rig: &Rig, whole: &Whole) {
    rig.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "upload", "namespace": TEAM },
        "stringData": { "token": TOKENS },
    }))
    .await;
    rig.apply(json!({
        "apiVersion": Group::Kiln.api_version(), "kind": "StaticSite",
        "metadata": { "name": "files", "namespace": TEAM,
                      "annotations": { "pages.kiln.local/upload-secret": "upload" } },
        "spec": {},
    }))
    .await;
    until("the site waits", async || synced(rig, "files").await["reason"] == "NothingUploaded")
        .await;
    let bytes = archive("first upload");
    for token in ["", "another token of 16", "the old token"] {
        assert_eq!(put(whole, "files", token, &bytes).0, "HTTP/1.1 401 Unauthorized");
    }
    assert_eq!(put(whole, "none", TOKEN, &bytes).0, "HTTP/1.1 401 Unauthorized");
    let (line, text) = put(whole, "blog", TOKEN, &bytes);
    assert_eq!(line, "HTTP/1.1 409 Conflict", "{text}");
    let (line, text) = put(whole, "files", "the old token of the site", &bytes);
    assert_eq!(line, "HTTP/1.1 200 OK", "{text}");
    assert!(text.contains("\npublished\nrevision sha256:"), "{text}");
    whole.until_page("files", "first upload").await;
    let (_, again) = put(whole, "files", "the new token of the site", &bytes);
    assert!(again.contains("the same archive is published already"), "{again}");
    let second = zstd::encode_all(&archive("second upload")[..], 3).unwrap();
    assert_eq!(put(whole, "files", TOKEN, &second).0, "HTTP/1.1 200 OK");
    whole.until_page("files", "second upload").await;
    until("the site is ready", async || {
        let site = rig.sites(TEAM).get("files").await.unwrap();
        condition(&site, "Ready")["reason"] == "Ready"
            && site.data["status"]["revision"]["commit"].as_str().unwrap().starts_with("sha256:")
            && !site.data["status"].to_string().contains("token of the site")
    })
    .await;
}

/// Asks for the status page; true if the line of the site has this text.
fn board(whole: &Whole, text: &str) -> bool {
    let operations = whole.operations;
    let request = format!(
        "GET /status?q={TEAM}%2Ffiles HTTP/1.1\r\nHost: {operations}\r\nConnection: close\r\n\r\n"
    );
    let answer = String::from_utf8(talk(operations, request.as_bytes())).unwrap();
    assert!(answer.contains("content-security-policy: default-src 'none'"), "{answer}");
    assert!(answer.contains("https://files.team-whole.pages.test/"), "{answer}");
    for secret in ["token of the site", "repo", "127.0.0.1"] {
        assert!(!answer.contains(secret), "{secret}: {answer}");
    }
    answer.contains(text)
}

pub async fn a_refused_archive_changes_nothing(rig: &Rig, whole: &Whole) {
    let whole_archive = archive("third upload");
    let cut = &whole_archive[..1024];
    let (line, text) = put(whole, "files", TOKEN, cut);
    assert_eq!(line, "HTTP/1.1 422 Unprocessable Entity", "{text}");
    assert!(text.contains("BadArchive: the archive ends too early"), "{text}");
    until("the status says why", async || synced(rig, "files").await["reason"] == "BadArchive")
        .await;
    assert_eq!(whole.page("files").1, "second upload");
    // A poll does not hide the failure.
    whole.request(&format!("POST /sync/{TEAM}/files"), TOKEN);
    assert_eq!(put(whole, "files", TOKEN, b"<html>").0, "HTTP/1.1 422 Unprocessable Entity");
    assert_eq!(synced(rig, "files").await["reason"], "BadArchive");
    assert_eq!(put(whole, "files", TOKEN, &archive("second upload")).0, "HTTP/1.1 200 OK");
    until("the failure is over", async || synced(rig, "files").await["reason"] == "Published")
        .await;
}

pub async fn a_person_rolls_an_upload_back(rig: &Rig, whole: &Whole) {
    let files = &*format!("{TEAM}/files");
    let first = expect("status", &[files], 0, &["none; files are uploaded", "PUT /site/"]);
    let is_first = |line: &&str| line.trim_start().starts_with("sha256:");
    let first = first.lines().rfind(is_first).unwrap().trim().split(' ').next().unwrap().to_owned();
    expect("rollback", &[files, &first], 0, &[]);
    whole.until_page("files", "first upload").await;
    let (_, text) = put(whole, "files", TOKEN, &archive("third upload"));
    assert!(text.contains("a rollback holds the site"), "{text}");
    assert_eq!(whole.page("files").1, "first upload");
    until("the status page shows it", async || board(whole, "RolledBack")).await;
    expect("rollback", &[files, "--end"], 0, &[]);
    whole.until_page("files", "third upload").await;
    until("the state is as before", async || synced(rig, "files").await["reason"] == "Published")
        .await;
}

/// The syncer has a new disk by now.
pub async fn an_uploaded_page_outlives_the_disk_of_the_syncer(rig: &Rig, whole: &Whole) {
    assert_eq!(whole.page("files").1, "third upload");
    until("the loss is shown", async || synced(rig, "files").await["reason"] == "UploadLost").await;
    let site = rig.sites(TEAM).get("files").await.unwrap();
    assert!(!site.data["status"]["revision"].is_null());
    assert_eq!(whole.page("files").1, "third upload");
    assert_eq!(put(whole, "files", TOKEN, &archive("fourth upload")).0, "HTTP/1.1 200 OK");
    whole.until_page("files", "fourth upload").await;
}

pub async fn a_removed_upload_is_gone(rig: &Rig, whole: &Whole) {
    whole.request(&format!("DELETE /site/{TEAM}/files"), TOKEN);
    until("the page is gone", async || whole.page("files").0.contains("421")).await;
    until("the status has no revision", async || {
        rig.sites(TEAM).get("files").await.unwrap().data["status"]["revision"].is_null()
    })
    .await;
}
