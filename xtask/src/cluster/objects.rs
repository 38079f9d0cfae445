//! The objects that `kubeadm init` makes so that nodes can join.
//!
//! Names are kubeadm's (`cmd/kubeadm/app/phases/bootstraptoken` in Kubernetes), so that its documents
//! apply.

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kiln_base::calendar::{Civil, Precision};
use serde_json::{Value, json};

use super::pki;
use crate::credential::token::Token;

/// The group of nodes that join with a token.
const JOINING: &str = "system:bootstrappers:kubeadm:default-node-token";

/// Seconds until a token expires, as with kubeadm.
const TOKEN_SECONDS: i64 = 24 * 60 * 60;

const RBAC: &str = "rbac.authorization.k8s.io";
const RBAC_VERSION: &str = "rbac.authorization.k8s.io/v1";

/// Returns all objects as one list.
pub fn all(token: &Token, server: &str, ca: &str) -> Result<Value> {
    let mut items = vec![secret(token, TOKEN_SECONDS)?, cluster_info(server, ca)];
    items.extend(joining());
    items.extend(reading_cluster_info());
    items.push(binding(
        "kiln:kubelet-api",
        "system:kubelet-api-admin",
        "User",
        pki::KUBELET_CLIENT_USER,
    ));
    Ok(json!({ "apiVersion": "v1", "kind": "List", "items": items }))
}

/// A token that expires after this time, or that has expired if the time is negative.
pub fn secret(token: &Token, seconds: i64) -> Result<Value> {
    let now = Civil::now().seconds().context("the clock has no valid time")?;
    let expiration = Civil::from_seconds(now + seconds).rfc3339(Precision::Seconds).to_string();
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "bootstrap.kubernetes.io/token",
        "metadata": { "namespace": "kube-system", "name": format!("bootstrap-token-{}", token.id()) },
        "stringData": {
            "token-id": token.id(),
            "token-secret": token.secret(),
            "expiration": expiration,
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": JOINING,
        },
    }))
}

/// The public description of the cluster, which the bootstrap signer signs for each token.
fn cluster_info(server: &str, ca: &str) -> Value {
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "", "cluster": {
            "server": server, "certificate-authority-data": STANDARD.encode(ca),
        }}],
        "contexts": [],
        "users": [],
        "current-context": "",
    });
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "namespace": "kube-public", "name": "cluster-info" },
        "data": { "kubeconfig": kubeconfig.to_string() },
    })
}

/// The rights of nodes that join, and of nodes that have joined to rotate their certificates.
fn joining() -> Vec<Value> {
    let approve = "system:certificates.k8s.io:certificatesigningrequests";
    vec![
        binding("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", "Group", JOINING),
        binding(
            "kubeadm:node-autoapprove-bootstrap",
            &format!("{approve}:nodeclient"),
            "Group",
            JOINING,
        ),
        binding(
            "kubeadm:node-autoapprove-certificate-rotation",
            &format!("{approve}:selfnodeclient"),
            "Group",
            "system:nodes",
        ),
        json!({
            "apiVersion": RBAC_VERSION,
            "kind": "ClusterRole",
            "metadata": { "name": "kubeadm:get-nodes" },
            "rules": [{ "apiGroups": [""], "resources": ["nodes"], "verbs": ["get"] }],
        }),
        binding("kubeadm:get-nodes", "kubeadm:get-nodes", "Group", JOINING),
    ]
}

/// The right to read `cluster-info` without a name.
fn reading_cluster_info() -> [Value; 2] {
    let name = "kubeadm:bootstrap-signer-clusterinfo";
    let metadata = json!({ "namespace": "kube-public", "name": name });
    [
        json!({
            "apiVersion": RBAC_VERSION,
            "kind": "Role",
            "metadata": metadata,
            "rules": [{
                "apiGroups": [""],
                "resources": ["configmaps"],
                "resourceNames": ["cluster-info"],
                "verbs": ["get"],
            }],
        }),
        json!({
            "apiVersion": RBAC_VERSION,
            "kind": "RoleBinding",
            "metadata": metadata,
            "roleRef": { "apiGroup": RBAC, "kind": "Role", "name": name },
            "subjects": [{ "apiGroup": RBAC, "kind": "User", "name": "system:anonymous" }],
        }),
    ]
}

fn binding(name: &str, role: &str, kind: &str, subject: &str) -> Value {
    json!({
        "apiVersion": RBAC_VERSION,
        "kind": "ClusterRoleBinding",
        "metadata": { "name": name },
        "roleRef": { "apiGroup": RBAC, "kind": "ClusterRole", "name": role },
        "subjects": [{ "apiGroup": RBAC, "kind": kind, "name": subject }],
    })
}
