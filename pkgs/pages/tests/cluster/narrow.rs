//! A syncer that may read the Secrets of some namespaces only.

use gix_hash::Kind;
use kiln_test_support::program::Program;
use serde_json::json;

use crate::common::{Repository, Server};
use crate::rig::{NAMESPACE, Rig, condition, site, until};
use crate::whole::{SECRET, TOKEN, free, hook, pages, request};

/// The account of this syncer, which has the rights of the component `secrets-by-namespace`.
const ACCOUNT: &str = "pages-narrow";

/// The namespace of the site.
const TEAM: &str = "team-narrow";

/// Binds a role to the account: everywhere, or in a namespace.
async fn bind(rig: &Rig, role: &str, namespace: Option<&str>) {
    let kind = if namespace.is_some() { "RoleBinding" } else { "ClusterRoleBinding" };
    let mut binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
        "metadata": { "name": ACCOUNT },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
        "subjects": [{ "kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE }],
    });
    if let Some(namespace) = namespace {
        binding["metadata"]["namespace"] = json!(namespace);
    }
    rig.apply(binding).await;
}

pub async fn secrets_are_read_only_where_a_namespace_allows_it(rig: &Rig) {
    rig.namespace(TEAM).await;
    rig.apply(json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": { "name": ACCOUNT, "namespace": NAMESPACE },
    }))
    .await;
    bind(rig, "kiln:pages-syncer", None).await;
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "login", "namespace": TEAM },
        "stringData": { "secret": SECRET, "password": "a password" },
    });
    rig.apply(secret).await;
    let git = Server::start(Repository::new(Kind::Sha1));
    let folder = tempfile::tempdir().unwrap();
    let (kubeconfig, token) = (folder.path().join("kubeconfig"), folder.path().join("token"));
    rig.write_kubeconfig(ACCOUNT, &kubeconfig).await;
    std::fs::write(&token, TOKEN).unwrap();
    let api = free();
    let mut command = pages("syncer");
    command.arg(format!("--listen={api}")).arg("--operations=127.0.0.1:0");
    command.args(["--git-host=localhost", "--git-plain-host=localhost"]);
    command.arg("--data").arg(folder.path().join("data")).arg("--kubeconfig").arg(kubeconfig);
    command.arg("--request-token").arg(token);
    let syncer = Program::start(command);
    syncer.until_log("leads");
    let url = git.url("localhost");
    let mut private = json!({ "repo": url, "secretRef": { "name": "login" } });
    private = site(TEAM, "private", &private);
    private["metadata"]["annotations"] = json!({ "pages.kiln.local/webhook-secret": "login" });
    rig.apply(private).await;
    let sites = rig.sites(TEAM);
    until("the missing right is named", async || {
        let condition = condition(&sites.get("private").await.unwrap(), "Synced");
        condition["reason"] == "BadSecret"
            && condition["message"].to_string().contains("make a RoleBinding for the ClusterRole")
    })
    .await;
    let body = json!({ "ref": "refs/heads/main", "repository": { "clone_url": url } }).to_string();
    let deliver = || hook(api, &format!("{TEAM}/private"), &body, SECRET);
    assert_eq!(deliver(), "HTTP/1.1 401 Unauthorized");
    bind(rig, "kiln:pages-syncer-secrets", Some(TEAM)).await;
    until("the webhook is accepted", async || deliver() == "HTTP/1.1 202 Accepted").await;
    request(api, &format!("POST /sync/{TEAM}/private"), TOKEN);
    // The login is read now, and never sent without encryption.
    until("the login is the next fault", async || {
        let condition = condition(&sites.get("private").await.unwrap(), "Synced");
        condition["reason"] == "BadCredentials"
    })
    .await;
}
