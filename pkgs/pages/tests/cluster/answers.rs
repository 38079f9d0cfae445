//! The answers of other controllers to routes and certificates, in a site's conditions.

use kube::api::{Api, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use crate::rig::{NAMESPACE, Rig, condition, until};

/// Writes the status of an object, as its controller does.
async fn answer(objects: &Api<DynamicObject>, name: &str, status: Value) {
    let patch: Patch<Value> = Patch::Merge(json!({ "status": status }));
    objects.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
}

/// Waits until the site `after` has these values of `Routed`.
async fn until_routed(rig: &Rig, status: &str, reason: &str, message: &str) {
    let sites = rig.sites("team-a");
    until(&format!("the site is {reason}"), async || {
        let routed = condition(&sites.get("after").await.unwrap(), "Routed");
        routed["status"] == status
            && routed["reason"] == reason
            && routed["message"].to_string().contains(message)
    })
    .await;
}

/// Returns a condition about a generation of an object.
fn about(kind: &str, status: &str, generation: Option<i64>) -> Value {
    json!({ "type": kind, "status": status, "reason": "Test", "message": "says the test",
            "observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z" })
}

pub async fn an_ingress_shows_its_address(rig: &Rig, name: &str) {
    let ingresses = rig.api("networking.k8s.io/v1", "Ingress", Some(NAMESPACE));
    until_routed(rig, "True", "Routed", "by Ingress").await;
    answer(&ingresses, name, json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.7" }] } }))
        .await;
    until_routed(rig, "True", "Routed", "by Ingress at 192.0.2.7").await;
}

pub async fn a_certificate_that_is_not_ready_is_named(
    rig: &Rig,
    certificates: &Api<DynamicObject>,
    name: &str,
) {
    until_routed(rig, "Unknown", "Unconfirmed", "no controller").await;
    let generation = certificates.get(name).await.unwrap().metadata.generation;
    let ready = |status| json!({ "conditions": [about("Ready", status, generation)] });
    answer(certificates, name, ready("False")).await;
    until_routed(rig, "False", "CertificateNotReady", "says the test").await;
    answer(certificates, name, ready("True")).await;
    until_routed(rig, "True", "Routed", "by IngressRoute").await;
}

pub async fn a_gateway_confirms_or_refuses_a_route(
    rig: &Rig,
    routes: &Api<DynamicObject>,
    name: &str,
) {
    until_routed(rig, "Unknown", "Unconfirmed", "no controller").await;
    let route = routes.get(name).await.unwrap();
    let generation = route.metadata.generation;
    let parent = |conditions: Value| {
        json!({ "parents": [{ "parentRef": { "name": "public" }, "controllerName": "test/x",
                              "conditions": conditions }] })
    };
    let accepted = |status, generation| parent(json!([about("Accepted", status, generation)]));
    answer(routes, name, accepted("False", generation)).await;
    until_routed(rig, "False", "NotAccepted", "says the test").await;
    answer(routes, name, accepted("True", generation)).await;
    until_routed(rig, "True", "Routed", "by HTTPRoute").await;
    let yes = about("Accepted", "True", generation);
    let lost = about("ResolvedRefs", "False", generation);
    answer(routes, name, parent(json!([yes, lost]))).await;
    until_routed(rig, "False", "RefsNotResolved", "says the test").await;
    // An answer about an earlier generation does not count.
    answer(routes, name, accepted("False", generation.map(|generation| generation - 1))).await;
    until_routed(rig, "Unknown", "Unconfirmed", "no controller").await;
}
