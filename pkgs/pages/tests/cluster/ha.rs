//! Two syncers: whichever of them is killed, stopped or paused, every push is served and no page vanishes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use gix_hash::Kind;
use kiln_test_support::program::Program;
use kube::api::{Patch, PatchParams};
use pages::api::Group;
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{Repository, Server};
use crate::rig::{Rig, site, until};
use crate::uploads::{archive, upload};
use crate::whole::{ACCOUNT, SECRET, TOKEN, free, hook, kill, page, pages, request};

/// The namespace of the site.
const TEAM: &str = "team-ha";

/// The time between two looks of the visitor.
const LOOK: Duration = Duration::from_millis(20);

/// Two syncers, a server that knows both, and a git server.
struct Pair {
    git: Server,
    syncers: [Option<Program>; 2],
    /// The syncers' addresses, which stay the same when they start again.
    api: [SocketAddr; 2],
    visitors: SocketAddr,
    kubeconfig: PathBuf,
    folder: TempDir,
    /// The number of the last push.
    number: u64,
    _server: Program,
}

impl Pair {
    async fn start(rig: &Rig) -> Self {
        rig.namespace(TEAM).await;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "hook", "namespace": TEAM },
            "stringData": { "secret": SECRET },
        });
        rig.apply(secret).await;
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        rig.write_kubeconfig(ACCOUNT, &kubeconfig).await;
        std::fs::write(folder.path().join("token"), TOKEN).unwrap();
        let git = Server::start(Repository::new(Kind::Sha1));
        let api = [free(), free()];
        let (server, visitors) = serve(folder.path(), &api, "server");
        let syncers = [None, None];
        Self { git, syncers, api, visitors, kubeconfig, folder, number: 0, _server: server }
    }

    /// Starts a server that knows some syncers.
    fn serve(&self, syncers: &[SocketAddr], data: &str) -> (Program, SocketAddr) {
        serve(self.folder.path(), syncers, data)
    }

    fn run(&mut self, number: usize, data: &str) {
        let mut command = pages("syncer");
        command.arg("--address=127.0.0.1").arg(format!("--listen={}", self.api[number]));
        command.args(["--git-host=localhost", "--git-plain-host=localhost", "--recheck=1"]);
        command.args(["--git-network=127.0.0.0/8", "--operations=127.0.0.1:0"]);
        command.arg("--data").arg(self.folder.path().join(data));
        command.arg("--server-token").arg(self.folder.path().join("token"));
        command.arg("--request-token").arg(self.folder.path().join("token"));
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        self.syncers[number] = Some(Program::start(command));
    }

    /// Starts a syncer, and waits until it has a copy.
    fn follow(&mut self, number: usize, data: &str) {
        self.run(number, data);
        self.syncer(number).until_log("has all revisions of the leader");
    }

    fn syncer(&self, number: usize) -> &Program {
        self.syncers[number].as_ref().unwrap()
    }

    fn push(&mut self) -> u64 {
        self.number += 1;
        let text = self.number.to_string();
        self.git.repository.lock().unwrap().push("main", &[("index.html", &text)]);
        self.number
    }

    /// Delivers a webhook to a syncer, which must accept it.
    fn hook(&self, number: usize) {
        let answer = self.try_hook(number);
        assert_eq!(answer, "HTTP/1.1 202 Accepted", "the webhook to {number}");
    }

    fn try_hook(&self, number: usize) -> String {
        let body = json!({
            "ref": "refs/heads/main", "repository": { "clone_url": self.git.url("localhost") },
        });
        hook(self.api[number], &format!("{TEAM}/blog"), &body.to_string(), SECRET)
    }

    async fn until_page(&self, number: u64) {
        let number = number.to_string();
        until(&format!("the page is {number}"), async || page(self.visitors, &host()).1 == number)
            .await;
    }
}

/// Starts a server; returns its address for visitors, too.
fn serve(folder: &Path, syncers: &[SocketAddr], data: &str) -> (Program, SocketAddr) {
    let visitors = free();
    let mut command = pages("serve");
    command.args(syncers.iter().map(|one| format!("--syncer=http://{one}")));
    command.arg("--token").arg(folder.join("token")).arg("--data").arg(folder.join(data));
    command.arg(format!("--listen={visitors}")).arg("--operations=127.0.0.1:0");
    let server = Program::start(command);
    server.until_log("serving on");
    (server, visitors)
}

fn host() -> String {
    format!("blog.{TEAM}.pages.test")
}

/// A visitor that asks until this is stopped.
struct Visitor {
    stop: Sender<()>,
    thread: JoinHandle<u64>,
}

impl Visitor {
    /// Asks for the page again and again. It must always be there, and never an older one than before.
    fn start(address: SocketAddr) -> Self {
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            let (mut newest, mut looks) = (0, 0);
            while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                let (status, body) = page(address, &host());
                assert_eq!(status, "HTTP/1.1 200 OK");
                let number: u64 = body.parse().unwrap();
                assert!(number >= newest, "{number} after {newest}");
                newest = number;
                looks += 1;
            }
            looks
        });
        Self { stop, thread }
    }

    fn stop(self) {
        drop(self.stop);
        assert!(self.thread.join().unwrap() > 100);
    }
}

/// Runs the scenarios with one pair.
pub async fn two_syncers(rig: &Rig) {
    let mut pair = Pair::start(rig).await;
    pair.run(0, "zero");
    pair.syncer(0).until_log("leads");
    pair.follow(1, "one");
    let first = pair.push();
    let mut blog =
        site(TEAM, "blog", &json!({ "repo": pair.git.url("localhost"), "syncInterval": "24h" }));
    blog["metadata"]["annotations"] = json!({ "pages.kiln.local/webhook-secret": "hook" });
    rig.apply(blog).await;
    pair.until_page(first).await;
    let visitor = Visitor::start(pair.visitors);
    webhooks_to_either_syncer_count(&mut pair).await;
    a_killed_leader_is_replaced(&mut pair).await;
    a_stopped_leader_hands_over(&mut pair).await;
    a_paused_leader_does_no_harm(&mut pair).await;
    visitor.stop();
    an_upload_to_a_follower_is_copied(rig, &pair).await;
    the_copy_has_older_revisions(rig, &mut pair).await;
}

async fn webhooks_to_either_syncer_count(pair: &mut Pair) {
    for number in [1, 0, 1] {
        let push = pair.push();
        pair.hook(number);
        pair.until_page(push).await;
    }
    let path = format!("POST /sync/{TEAM}/blog");
    assert_eq!(request(pair.api[1], &path, "a wrong token of 16"), "HTTP/1.1 401 Unauthorized");
    let push = pair.push();
    assert_eq!(request(pair.api[1], &path, TOKEN), "HTTP/1.1 202 Accepted");
    pair.until_page(push).await;
}

async fn a_killed_leader_is_replaced(pair: &mut Pair) {
    // The leader accepts this one, and dies at once.
    pair.push();
    pair.hook(0);
    kill(pair.syncers[0].take());
    let push = pair.push();
    pair.hook(1);
    pair.syncer(1).until_log("leads");
    pair.until_page(push).await;
    pair.follow(0, "zero");
}

async fn a_stopped_leader_hands_over(pair: &mut Pair) {
    pair.push();
    pair.hook(1);
    pair.syncer(1).signal(Signal::TERM);
    // While it drains, it takes webhooks for the next leader.
    let push = pair.push();
    let answer = pair.try_hook(1);
    pair.syncer(0).until_log("leads");
    if answer != "HTTP/1.1 202 Accepted" {
        pair.hook(0);
    }
    pair.until_page(push).await;
    assert_eq!(pair.syncers[1].take().unwrap().wait(), Some(0));
    pair.follow(1, "one");
}

async fn a_paused_leader_does_no_harm(pair: &mut Pair) {
    pair.syncer(0).signal(Signal::STOP);
    let push = pair.push();
    pair.hook(1);
    pair.syncer(1).until_log("leads");
    pair.until_page(push).await;
    // For a moment there are two leaders.
    pair.syncer(0).signal(Signal::CONT);
    let push = pair.push();
    pair.hook(1);
    pair.until_page(push).await;
    let code = pair.syncers[0].take().unwrap().wait();
    assert!(code.is_some_and(|code| code != 0), "it ends, because another one leads: {code:?}");
    pair.follow(0, "new-disk");
    let push = pair.push();
    pair.hook(0);
    pair.until_page(push).await;
}

async fn an_upload_to_a_follower_is_copied(rig: &Rig, pair: &Pair) {
    rig.apply(json!({
        "apiVersion": Group::Kiln.api_version(), "kind": "StaticSite",
        "metadata": { "name": "files", "namespace": TEAM }, "spec": {},
    }))
    .await;
    let bytes = archive("uploaded");
    let name = format!("{TEAM}/files");
    // The leader may not know the site yet.
    until("the upload is accepted", async || {
        upload(pair.api[0], &name, TOKEN, &bytes).0 == "HTTP/1.1 200 OK"
    })
    .await;
    let copy = pair.folder.path().join("new-disk/sites").join(&name).join("manifest.json");
    until("the follower has a copy", async || copy.is_file()).await;
}

async fn the_copy_has_older_revisions(rig: &Rig, pair: &mut Pair) {
    kill(pair.syncers[1].take());
    pair.syncer(0).until_log("leads");
    let annotations = json!({ "pages.kiln.local/rollback": "previous" });
    let patch: Patch<Value> = Patch::Merge(json!({ "metadata": { "annotations": annotations } }));
    rig.sites(TEAM).patch("blog", &PatchParams::default(), &patch).await.unwrap();
    pair.until_page(pair.number - 1).await;
    // A new server gets the upload from the copy.
    let (server, visitors) = pair.serve(&[pair.api[0]], "new-server");
    let host = format!("files.{TEAM}.pages.test");
    until("the upload is served", async || page(visitors, &host).1 == "uploaded").await;
    drop(server);
}
