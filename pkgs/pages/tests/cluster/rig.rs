//! The cluster's objects, and the running operator.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kiln_test_support::program::Program;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::{Client, Config};
use pages::api::{Group, crd};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The namespace of the program.
pub const NAMESPACE: &str = "kiln-pages";

/// The account of the operator.
pub const ACCOUNT: &str = "pages-operator";

/// The time after which a scenario that waits fails.
const PATIENCE: Duration = Duration::from_mins(1);

/// The time between two looks at an object.
const LOOK: Duration = Duration::from_millis(100);

/// A cluster with a running operator.
pub struct Rig {
    /// The administrator's client.
    pub client: Client,
    /// The running operator.
    pub operator: Option<Program>,
    folder: TempDir,
}

/// Returns the path in a variable that `cargo xtask test` sets.
pub fn variable(name: &str) -> PathBuf {
    let value = std::env::var_os(name);
    value.unwrap_or_else(|| panic!("{name} is not set; run `cargo xtask test --no-vm`")).into()
}

/// Reads the builder's description of the git servers.
pub fn servers() -> Value {
    serde_json::from_slice(&std::fs::read(variable("KILN_PAGES_GIT")).unwrap()).unwrap()
}

impl Rig {
    /// Installs the manifests and starts the operator.
    pub async fn start() -> Self {
        let kubeconfig = Kubeconfig::read_from(variable("KILN_PAGES_KUBECONFIG")).unwrap();
        let choice = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(kubeconfig, &choice).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let mut rig = Self { client, operator: None, folder: tempfile::tempdir().unwrap() };
        for group in Group::ALL {
            rig.define(serde_json::to_value(crd::definition(group)).unwrap()).await;
        }
        rig.install("namespace.yaml").await;
        rig.install("operator.yaml").await;
        rig.write_kubeconfig(ACCOUNT, &rig.kubeconfig()).await;
        rig.run(&[]);
        rig
    }

    /// Applies a file of `manifests/pages`, in the namespace that its kustomization sets.
    pub async fn install(&self, file: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/pages").join(file);
        let text = std::fs::read_to_string(path).unwrap();
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        for mut object in objects {
            let kind = object["kind"].as_str().unwrap().to_owned();
            if !["Namespace", "ClusterRole", "ClusterRoleBinding"].contains(&kind.as_str()) {
                object["metadata"]["namespace"] = json!(NAMESPACE);
            }
            self.apply(object).await;
        }
    }

    /// Applies a definition, and waits until it is served.
    pub async fn define(&self, definition: Value) {
        let name = definition["metadata"]["name"].as_str().unwrap().to_owned();
        self.apply(definition).await;
        let definitions = self.api("apiextensions.k8s.io/v1", "CustomResourceDefinition", None);
        until(&format!("{name} is served"), async || {
            let found = definitions.get(&name).await.unwrap();
            let conditions = found.data["status"]["conditions"].as_array().cloned();
            conditions.unwrap_or_default().iter().any(|condition| {
                condition["type"] == "Established" && condition["status"] == "True"
            })
        })
        .await;
    }

    /// Returns the calls for a kind of object.
    pub fn api(&self, version: &str, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// Applies an object as the administrator.
    pub async fn apply(&self, object: Value) -> DynamicObject {
        self.try_apply(&object).await.unwrap_or_else(|error| panic!("{object:#}: {error}"))
    }

    /// Applies an object as the administrator; it may be refused.
    pub async fn try_apply(&self, object: &Value) -> kube::Result<DynamicObject> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let namespace = object["metadata"]["namespace"].as_str();
        let api = self.api(&text(&object["apiVersion"]), &text(&object["kind"]), namespace);
        let parameters = PatchParams::apply("test").force();
        api.patch(&text(&object["metadata"]["name"]), &parameters, &Patch::Apply(object)).await
    }

    /// Writes the administrator's kubeconfig with a token of a program's account instead.
    pub async fn write_kubeconfig(&self, account: &str, path: &Path) {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), NAMESPACE);
        let request = TokenRequest::default();
        let token = accounts.create_token_request(account, &PostParams::default(), &request).await;
        let token = token.unwrap().status.unwrap().token;
        // The builder writes JSON, which is YAML, too.
        let text = std::fs::read_to_string(variable("KILN_PAGES_KUBECONFIG")).unwrap();
        let mut file: Value = serde_json::from_str(&text).unwrap();
        file["users"][0]["user"] = json!({ "token": token });
        std::fs::write(path, file.to_string()).unwrap();
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// Returns the command of an operator with more options.
    #[expect(clippy::disallowed_methods, reason = "the test's own child, not part of a build")]
    pub fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pages"));
        command.args(["operator", "--domain=pages.test", "--no-dns", "--recheck=1"]);
        command.arg("--operations=127.0.0.1:0").arg("--kubeconfig").arg(self.kubeconfig());
        command.args(options.iter().map(OsString::from));
        command
    }

    /// Stops the operator, so that it gives the Lease back.
    pub fn stop(&mut self) {
        if let Some(mut operator) = self.operator.take() {
            operator.signal(Signal::TERM);
            assert_eq!(operator.wait(), Some(0));
        }
    }

    /// Starts the operator, in place of a running one, and waits until it leads.
    pub fn run(&mut self, options: &[&str]) {
        self.stop();
        let operator = Program::start(self.command(options));
        operator.until_log("leads");
        self.operator = Some(operator);
    }

    /// Creates a namespace.
    pub async fn namespace(&self, name: &str) {
        let namespace =
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        self.apply(namespace).await;
    }

    /// Returns the sites of a namespace.
    pub fn sites(&self, namespace: &str) -> Api<DynamicObject> {
        self.api(&Group::Kiln.api_version(), "StaticSite", Some(namespace))
    }

    /// Waits until the condition `Routed` of a site has this reason, and returns the site.
    pub async fn until_routed(&self, namespace: &str, name: &str, reason: &str) -> DynamicObject {
        let sites = self.sites(namespace);
        let mut found = None;
        until(&format!("{namespace}/{name} is {reason}"), async || {
            let site = sites.get(name).await.unwrap();
            let is_so = condition(&site, "Routed")["reason"] == reason;
            found = Some(site);
            is_so
        })
        .await;
        found.unwrap()
    }
}

/// Returns a site.
pub fn site(namespace: &str, name: &str, spec: &Value) -> Value {
    let mut site = json!({
        "apiVersion": Group::Kiln.api_version(), "kind": "StaticSite",
        "metadata": { "name": name, "namespace": namespace },
        "spec": { "repo": "https://git.example/team/site.git" },
    });
    for (key, value) in spec.as_object().unwrap() {
        site["spec"][key] = value.clone();
    }
    site
}

/// Returns a condition of a site.
pub fn condition(site: &DynamicObject, kind: &str) -> Value {
    let conditions = site.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default()
}

/// Waits until something is so.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < end, "waited {} s until {what}", PATIENCE.as_secs());
        tokio::time::sleep(LOOK).await;
    }
}
