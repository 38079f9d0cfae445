//! The three roles together: a push becomes a page, and no part that is away takes one back.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use gix_hash::Kind;
use hmac::{Hmac, KeyInit as _, Mac as _};
use kiln_test_support::client::talk;
use kiln_test_support::program::Program;
use kube::api::{DeleteParams, Patch, PatchParams};
use pages::api::Group;
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::Sha256;
use tempfile::TempDir;

use crate::common::{Mode, Repository, Server};
use crate::rig::{Rig, condition, servers, site, until};

/// The account of the syncer.
pub const ACCOUNT: &str = "pages-syncer";

/// The namespace of the sites.
pub const TEAM: &str = "team-whole";

/// The token between syncer and server, and the token for requests.
pub const TOKEN: &str = "a token of this test";

/// The secret of a webhook.
pub const SECRET: &str = "a secret of this test";

/// A syncer, a server and a git server.
pub struct Whole {
    pub git: Server,
    pub syncer: Option<Program>,
    pub server: Option<Program>,
    kubeconfig: PathBuf,
    folder: TempDir,
    /// The syncer's address, which stays the same when it starts again.
    pub api: SocketAddr,
    /// The syncer's operations port.
    pub operations: SocketAddr,
    pub visitors: SocketAddr,
}

impl Whole {
    async fn start(rig: &Rig) -> Self {
        rig.install("syncer.yaml").await;
        rig.namespace(TEAM).await;
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        rig.write_kubeconfig(ACCOUNT, &kubeconfig).await;
        std::fs::write(folder.path().join("token"), TOKEN).unwrap();
        let git = Server::start(Repository::new(Kind::Sha1));
        let (api, operations, visitors) = (free(), free(), free());
        let (syncer, server) = (None, None);
        let mut whole = Self { git, syncer, server, kubeconfig, folder, api, operations, visitors };
        whole.start_syncer("syncer");
        whole.start_server();
        whole
    }

    pub fn path(&self, name: &str) -> OsString {
        self.folder.path().join(name).into()
    }

    pub fn start_syncer(&mut self, data: &str) {
        let mut command = pages("syncer");
        command.arg(format!("--listen={}", self.api));
        command.arg(format!("--operations={}", self.operations));
        command.args(["--git-host=localhost,127.0.0.1", "--git-plain-host=localhost"]);
        command.arg("--git-ca").arg(servers()["ca"].as_str().unwrap());
        command.arg("--git-network=127.0.0.0/8").arg("--data").arg(self.path(data));
        command.arg("--server-token").arg(self.path("token"));
        command.arg("--request-token").arg(self.path("token"));
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        let syncer = Program::start(command);
        syncer.until_log("started");
        self.syncer = Some(syncer);
    }

    pub fn start_server(&mut self) {
        let mut command = pages("serve");
        command.arg(format!("--syncer=http://{}", self.api)).arg("--token").arg(self.path("token"));
        command.arg("--data").arg(self.path("server"));
        command.arg(format!("--listen={}", self.visitors)).arg("--operations=127.0.0.1:0");
        let server = Program::start(command);
        server.until_log("serving on");
        self.server = Some(server);
    }

    pub fn push(&self, files: &[(&str, &str)]) -> String {
        self.git.repository.lock().unwrap().push("main", files)
    }

    /// Sends a request to the syncer, and returns the status line.
    pub fn request(&self, line: &str, token: &str) -> String {
        request(self.api, line, token)
    }

    fn hook(&self, site: &str, body: &str, secret: &str) -> String {
        hook(self.api, &format!("{TEAM}/{site}"), body, secret)
    }

    /// Sends an event as GitHub does, and returns the status line.
    pub fn event(&self, site: &str, event: &str, body: &str, secret: &str) -> String {
        send(self.api, &format!("{TEAM}/{site}"), event, body, secret)
    }

    /// Asks the server for the first page of a site; returns the status line and the body.
    pub fn page(&self, name: &str) -> (String, String) {
        self.page_of(&format!("{name}.{TEAM}.pages.test"))
    }

    pub fn page_of(&self, host: &str) -> (String, String) {
        page(self.visitors, host)
    }

    /// Asks the server for a path of a host, and returns the whole answer.
    pub fn answer_of(&self, host: &str, path: &str) -> String {
        let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        String::from_utf8_lossy(&talk(self.visitors, text.as_bytes())).into_owned()
    }

    pub async fn until_page(&self, name: &str, body: &str) {
        until(&format!("{name} shows {body}"), async || self.page(name).1 == body).await;
    }
}

/// Sends a request to a syncer, and returns the status line.
pub fn request(api: SocketAddr, line: &str, token: &str) -> String {
    let text = format!(
        "{line} HTTP/1.1\r\nHost: {api}\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n"
    );
    status(&talk(api, text.as_bytes()))
}

/// Sends a push event as GitHub does, and returns the status line.
pub fn hook(api: SocketAddr, site: &str, body: &str, secret: &str) -> String {
    send(api, site, "push", body, secret)
}

fn send(api: SocketAddr, site: &str, event: &str, body: &str, secret: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let proof = hex(&mac.finalize().into_bytes());
    let length = body.len();
    let text = format!(
        "POST /webhook/{site} HTTP/1.1\r\nHost: {api}\r\nX-GitHub-Event: {event}\r\n\
         X-Hub-Signature-256: sha256={proof}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    status(&talk(api, text.as_bytes()))
}

/// Asks a server for the first page of a host; returns the status line and the body.
pub fn page(visitors: SocketAddr, host: &str) -> (String, String) {
    let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let answer = talk(visitors, text.as_bytes());
    let text = String::from_utf8_lossy(&answer);
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    (status(&answer), body.unwrap_or_default())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

pub fn status(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).lines().next().unwrap_or_default().to_owned()
}

#[expect(clippy::disallowed_methods, reason = "the test's own child, not part of a build")]
pub fn pages(role: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pages"));
    command.arg(role);
    command
}

/// Returns an address that is free at present.
pub fn free() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// Starts the three roles, and runs the scenarios of changes.
pub async fn pages_follow_git(rig: &Rig) -> Whole {
    let whole = Whole::start(rig).await;
    a_push_becomes_a_page(rig, &whole).await;
    a_webhook_publishes_and_a_forged_one_does_not(rig, &whole).await;
    a_failed_fetch_keeps_the_page_and_says_why(rig, &whole).await;
    a_rollback_shows_the_revision_before(rig, &whole).await;
    whole
}

/// Runs the scenarios in which programs, disks and sites are lost.
pub async fn pages_stay(rig: &Rig, whole: &mut Whole) {
    nothing_is_lost_while_programs_are_killed(whole).await;
    a_new_disk_of_the_syncer_takes_no_page_away(whole).await;
    a_site_of_kup6s_pages_is_served(rig, whole).await;
    a_deleted_site_is_gone(rig, whole).await;
}

async fn a_push_becomes_a_page(rig: &Rig, whole: &Whole) {
    assert_eq!(whole.page("blog").0, "HTTP/1.1 421 Misdirected Request");
    let commit = whole.push(&[("index.html", "one"), ("docs/index.html", "docs one")]);
    let url = whole.git.url("localhost");
    rig.apply(site(TEAM, "blog", &json!({ "repo": url }))).await;
    rig.apply(site(TEAM, "docs", &json!({ "repo": url, "path": "/docs" }))).await;
    whole.until_page("blog", "one").await;
    whole.until_page("docs", "docs one").await;
    until("the site is Ready", async || ready(rig, "blog").await["status"] == "True").await;
    let found = rig.sites(TEAM).get("blog").await.unwrap();
    assert_eq!(found.data["status"]["revision"]["commit"], commit);
    whole.push(&[("index.html", "two"), ("docs/index.html", "docs one")]);
    let path = format!("POST /sync/{TEAM}/blog");
    assert_eq!(whole.request(&path, "another token"), "HTTP/1.1 401 Unauthorized");
    assert_eq!(whole.request(&path, TOKEN), "HTTP/1.1 202 Accepted");
    whole.until_page("blog", "two").await;
    assert_eq!(whole.page("docs").1, "docs one");
}

async fn a_webhook_publishes_and_a_forged_one_does_not(rig: &Rig, whole: &Whole) {
    rig.apply(json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "hook", "namespace": TEAM },
        "stringData": { "secret": SECRET },
    }))
    .await;
    let annotation = json!({ "pages.kiln.local/webhook-secret": "hook" });
    let patch = Patch::Merge(json!({ "metadata": { "annotations": annotation } }));
    rig.sites(TEAM).patch("blog", &PatchParams::default(), &patch).await.unwrap();
    whole.push(&[("index.html", "by webhook"), ("docs/index.html", "docs one")]);
    let body = json!({
        "ref": "refs/heads/main", "repository": { "clone_url": whole.git.url("localhost") },
    })
    .to_string();
    assert_eq!(whole.hook("blog", &body, "another secret of 16"), "HTTP/1.1 401 Unauthorized");
    // The annotation reaches the syncer a moment later.
    until("the webhook is accepted", async || {
        whole.hook("blog", &body, SECRET) == "HTTP/1.1 202 Accepted"
    })
    .await;
    whole.until_page("blog", "by webhook").await;
    whole.push(&[("index.html", "two"), ("docs/index.html", "docs one")]);
    whole.request(&format!("POST /sync/{TEAM}/blog"), TOKEN);
    whole.until_page("blog", "two").await;
}

async fn ready(rig: &Rig, name: &str) -> Value {
    condition(&rig.sites(TEAM).get(name).await.unwrap(), "Ready")
}

async fn a_failed_fetch_keeps_the_page_and_says_why(rig: &Rig, whole: &Whole) {
    whole.git.set(Mode::Status(500));
    whole.request(&format!("POST /sync/{TEAM}/blog"), TOKEN);
    until("the failure is shown", async || {
        let site = rig.sites(TEAM).get("blog").await.unwrap();
        condition(&site, "Synced")["status"] == "False"
            && !site.data["status"]["revision"].is_null()
    })
    .await;
    until("Ready names it", async || ready(rig, "blog").await["reason"] == "OldRevision").await;
    assert_eq!(whole.page("blog").1, "two");
    whole.git.set(Mode::Serve);
    whole.request(&format!("POST /sync/{TEAM}/blog"), TOKEN);
    until("the failure is over", async || ready(rig, "blog").await["reason"] == "Ready").await;
}

async fn a_rollback_shows_the_revision_before(rig: &Rig, whole: &Whole) {
    let annotate = |value: Value| {
        Patch::Merge(
            json!({ "metadata": { "annotations": { "pages.kiln.local/rollback": value } } }),
        )
    };
    let sites = rig.sites(TEAM);
    let parameters = PatchParams::default();
    sites.patch("blog", &parameters, &annotate(json!("previous"))).await.unwrap();
    whole.until_page("blog", "by webhook").await;
    sites.patch("blog", &parameters, &annotate(Value::Null)).await.unwrap();
    whole.until_page("blog", "two").await;
    until("the status shows it", async || ready(rig, "blog").await["reason"] == "Ready").await;
}

async fn nothing_is_lost_while_programs_are_killed(whole: &mut Whole) {
    kill(whole.syncer.take());
    assert_eq!(whole.page("blog").1, "two");
    kill(whole.server.take());
    whole.start_server();
    assert_eq!(whole.page("blog").1, "two", "from the server's own disk");
    whole.push(&[("index.html", "three"), ("docs/index.html", "docs one")]);
    whole.start_syncer("syncer");
    whole.request(&format!("POST /sync/{TEAM}/blog"), TOKEN);
    whole.until_page("blog", "three").await;
}

async fn a_new_disk_of_the_syncer_takes_no_page_away(whole: &mut Whole) {
    kill(whole.syncer.take());
    whole.git.set(Mode::Status(503));
    whole.start_syncer("new-disk");
    let server = whole.server.as_ref().unwrap();
    server.until_log("the syncer answers");
    assert_eq!(whole.page("blog").1, "three");
    assert_eq!(whole.page("docs").1, "docs one");
    whole.push(&[("index.html", "four"), ("docs/index.html", "docs four")]);
    whole.git.set(Mode::Serve);
    for name in ["blog", "docs"] {
        whole.request(&format!("POST /sync/{TEAM}/{name}"), TOKEN);
    }
    whole.until_page("blog", "four").await;
    whole.until_page("docs", "docs four").await;
}

async fn a_site_of_kup6s_pages_is_served(rig: &Rig, whole: &Whole) {
    let mut object = site(TEAM, "older", &json!({ "repo": whole.git.url("localhost") }));
    object["apiVersion"] = json!(Group::Kup6s.api_version());
    rig.apply(object).await;
    until("the site is served", async || whole.page_of("older.pages.test").1 == "four").await;
}

async fn a_deleted_site_is_gone(rig: &Rig, whole: &Whole) {
    rig.sites(TEAM).delete("blog", &DeleteParams::default()).await.unwrap();
    until("the site is gone", async || whole.page("blog").0.contains("421")).await;
    assert_eq!(whole.page("docs").1, "docs four");
}

pub fn kill(program: Option<Program>) {
    let mut program = program.unwrap();
    program.signal(Signal::KILL);
    program.wait();
}
