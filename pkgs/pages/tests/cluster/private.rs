//! Private repositories at real git servers: the Secret, a rotated one, and no trace of either.

use std::path::{Path, PathBuf};
use std::process::Command;

use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::rig::{Rig, condition, servers, site, until};
use crate::whole::{TEAM, TOKEN, Whole};

/// The password after the rotation.
const ROTATED: &str = "rotated password of a test";

/// A repository on the server's disk, with a clone to work in.
struct Work {
    git: PathBuf,
    bare: PathBuf,
    folder: tempfile::TempDir,
}

impl Work {
    fn create(servers: &Value, name: &str) -> Self {
        let path = |key: &str| Path::new(servers[key].as_str().unwrap()).to_owned();
        let bare = path("repositories").join(name);
        let work = Self { git: path("git"), bare, folder: tempfile::tempdir().unwrap() };
        work.run(&["init", "--quiet", "--bare", work.bare.to_str().unwrap()]);
        work.run(&["init", "--quiet"]);
        work
    }

    #[expect(clippy::disallowed_methods, reason = "the test's own child, not part of a build")]
    fn run(&self, arguments: &[&str]) {
        let mut command = Command::new(&self.git);
        command.args(arguments).current_dir(self.folder.path()).env("HOME", self.folder.path());
        assert!(command.status().unwrap().success(), "git {arguments:?}");
    }

    fn push(&self, page: &str) {
        std::fs::write(self.folder.path().join("index.html"), page).unwrap();
        self.run(&["add", "--all"]);
        self.run(&["commit", "--quiet", "--message", page]);
        self.run(&["push", "--quiet", self.bare.to_str().unwrap(), "HEAD:refs/heads/main"]);
    }
}

async fn secret(rig: &Rig, name: &str, data: Value) {
    let metadata = json!({ "name": name, "namespace": TEAM });
    let mut secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": metadata });
    secret["stringData"] = data;
    rig.apply(secret).await;
}

async fn until_reason(rig: &Rig, name: &str, reason: &str) {
    until(&format!("{name} is {reason}"), async || {
        let found = rig.sites(TEAM).get(name).await.unwrap();
        condition(&found, "Synced")["reason"] == reason
    })
    .await;
}

/// Asks for a fetch, until the site has a reason.
async fn until_fetched(rig: &Rig, whole: &Whole, name: &str, reason: &str) {
    whole.request(&format!("POST /sync/{TEAM}/{name}"), TOKEN);
    until_reason(rig, name, reason).await;
}

pub async fn a_private_repository_is_published_and_its_secrets_stay_secret(
    rig: &Rig,
    whole: &Whole,
) {
    let servers = servers();
    let text = |key: &str| servers[key].as_str().unwrap().to_owned();
    let (user, password) = (text("user"), text("password"));
    let work = Work::create(&servers, "private/cluster.git");
    work.push("private page");
    let repo = format!("{}/private/cluster.git", text("https"));
    rig.apply(site(TEAM, "private", &json!({ "repo": repo }))).await;
    until_reason(rig, "private", "AccessDenied").await;
    // A change of the reference fetches at once, although the site has failed.
    secret(rig, "login", json!({ "username": user, "password": password })).await;
    let reference = json!({ "spec": { "secretRef": { "name": "login" } } });
    let sites = rig.sites(TEAM);
    sites.patch("private", &PatchParams::default(), &Patch::Merge(reference)).await.unwrap();
    whole.until_page("private", "private page").await;
    // The server's password changes, and the old one fails.
    let line = |password: &str| format!("{user}:{{PLAIN}}{password}\n");
    std::fs::write(text("users"), line(ROTATED)).unwrap();
    work.push("after the rotation");
    until_fetched(rig, whole, "private", "AccessDenied").await;
    assert_eq!(whole.page("private").1, "private page");
    secret(rig, "login", json!({ "username": user, "password": ROTATED })).await;
    until_fetched(rig, whole, "private", "Published").await;
    whole.until_page("private", "after the rotation").await;
    std::fs::write(text("users"), line(&password)).unwrap();
    // The same repository by SSH.
    let key = std::fs::read_to_string(text("key")).unwrap();
    let known = std::fs::read_to_string(text("knownHosts")).unwrap();
    secret(rig, "key", json!({ "ssh-privatekey": key, "known_hosts": known })).await;
    let repo = format!("{}/private/cluster.git", text("ssh"));
    let spec = json!({ "repo": repo, "secretRef": { "name": "key" } });
    rig.apply(site(TEAM, "by-ssh", &spec)).await;
    whole.until_page("by-ssh", "after the rotation").await;
    // One line in the middle of the key proves that it is nowhere.
    let line = key.lines().nth(2).unwrap().to_owned();
    no_trace(rig, whole, &[&password, ROTATED, &line]).await;
}

/// Looks for secrets in logs, arguments, environment, status and events.
async fn no_trace(rig: &Rig, whole: &Whole, secrets: &[&str]) {
    let syncer = whole.syncer.as_ref().unwrap();
    let mut texts: Vec<String> = syncer.logged().collect();
    assert!(texts.iter().any(|line| line.contains("team-whole/private")), "the log has the site");
    for part in ["cmdline", "environ"] {
        let bytes = std::fs::read(format!("/proc/{}/{part}", syncer.child.id())).unwrap();
        texts.push(String::from_utf8_lossy(&bytes).into_owned());
    }
    let all = ListParams::default();
    let sites = rig.sites(TEAM).list(&all).await.unwrap();
    texts.extend(sites.items.iter().map(|site| site.data.to_string()));
    let events = rig.api("events.k8s.io/v1", "Event", Some(TEAM)).list(&all).await.unwrap();
    texts.extend(events.items.iter().map(|event| event.data.to_string()));
    for text in texts {
        assert!(secrets.iter().all(|secret| !text.contains(secret)), "a secret is in {text}");
    }
}
