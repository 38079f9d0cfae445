//! The subcommands for people, and the columns of `kubectl get ss`.

use std::collections::BTreeMap;

use pages::api::Group;
use serde_json::Value;

use crate::rig::{Rig, condition, until, variable};
use crate::whole::{TEAM, Whole, pages};

/// Runs a verb as the administrator; returns its exit status, and all that it prints.
fn run(verb: &str, words: &[&str]) -> (Option<i32>, String) {
    let mut command = pages(verb);
    command.args(words).env("KUBECONFIG", variable("KILN_PAGES_KUBECONFIG"));
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// Runs a verb, and compares its exit status and parts of its text; returns the text.
pub fn expect(verb: &str, words: &[&str], code: i32, parts: &[&str]) -> String {
    let (found, text) = run(verb, words);
    assert_eq!(found, Some(code), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
    text
}

/// The site shows "two"; the revision before is "by webhook", and "one" is the oldest.
pub async fn a_person_rolls_back_and_sees_the_state(rig: &Rig, whole: &Whole) {
    let blog = &*format!("{TEAM}/blog");
    let text = expect("status", &[blog], 0, &["Ready   yes", "* is in force", "/webhook/team-"]);
    let is_revision = |line: &&str| line.trim_start_matches([' ', '*']).starts_with("sha256:");
    let revisions: Vec<&str> = text.lines().filter(is_revision).collect();
    assert_eq!(revisions.len(), 3, "{text}");
    expect("rollback", &[blog], 0, &[&format!("{blog} shows "), "--end"]);
    whole.until_page("blog", "by webhook").await;
    until("the operator shows it", async || {
        let site = rig.sites(TEAM).get("blog").await.unwrap();
        condition(&site, "Ready")["reason"] == "RolledBack"
    })
    .await;
    let oldest = revisions[2].trim().split(' ').next().unwrap();
    expect("rollback", &[blog, oldest], 0, &[]);
    whole.until_page("blog", "one").await;
    expect("status", &[blog], 0, &["RolledBack", "ends it"]);
    expect("rollback", &[blog], 70, &["there is no older revision; the site has\n"]);
    expect("rollback", &[blog, "0000"], 70, &["has no revision \"0000\"; it has\n"]);
    expect("rollback", &[&format!("{TEAM}/blok")], 70, &["its namespace has blog, docs"]);
    expect("rollback", &["nowhere/blog"], 70, &["there is no StaticSite nowhere/blog, and none"]);
    expect("rollback", &[blog, "--end"], 0, &["new commits come into force again"]);
    whole.until_page("blog", "two").await;
    until("the operator shows the end", async || {
        let site = rig.sites(TEAM).get("blog").await.unwrap();
        condition(&site, "Ready")["reason"] == "Ready"
    })
    .await;
    expect(
        "status",
        &["--namespace", TEAM],
        0,
        &[blog, "every 5m", "https://blog.team-whole.pages.test/"],
    );
    // The sites of other scenarios are not ready.
    expect("status", &[], 1, &["NotSynced"]);
}

/// Asks for the table that kubectl prints.
pub async fn kubectl_shows_all_that_matters(rig: &Rig) {
    let path = format!("/apis/{}/namespaces/{TEAM}/staticsites", Group::Kiln.api_version());
    let request = axum::http::Request::get(path)
        .header("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Vec::new())
        .unwrap();
    let table: Value = rig.client.request(request).await.unwrap();
    let columns = table["columnDefinitions"].as_array().unwrap();
    let columns = columns.iter().map(|column| column["name"].as_str().unwrap());
    let row = table["rows"].as_array().unwrap().iter();
    let row = row.map(|row| row["cells"].as_array().unwrap()).find(|row| row[0] == "blog").unwrap();
    let cells: BTreeMap<&str, &Value> = columns.zip(row).collect();
    let site = rig.sites(TEAM).get("blog").await.unwrap();
    for (column, expected) in [
        ("URL", &site.data["status"]["url"]),
        ("Ready", &Value::from("True")),
        ("Reason", &Value::from("Ready")),
        ("Commit", &site.data["status"]["revision"]["commit"]),
        ("Repo", &site.data["spec"]["repo"]),
        ("Message", &condition(&site, "Ready")["message"]),
    ] {
        assert_eq!(cells[column], expected, "{column}");
    }
    assert!(cells.contains_key("Published") && cells.contains_key("Age"), "{cells:?}");
}
