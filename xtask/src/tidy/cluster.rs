//! Rules about `manifests/cluster` and `manifests/pages`, which `kubectl apply -k` installs.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::{files_with, none, root, text};
use crate::arch::Arch;
use crate::build::load;
use crate::config::ADD_ONS;

const FOLDER: &str = "manifests/cluster";

const PAGES: &str = "manifests/pages";

/// Returns the objects of all files that the kustomization lists, each with its file's name.
fn objects(folder: &str) -> Vec<(String, Value)> {
    let mut objects = Vec::new();
    for file in listed(folder).into_iter().filter(|name| !name.starts_with("../")) {
        let text = text(format!("{folder}/{file}"));
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        objects.extend(documents.into_iter().map(|object| (file.clone(), object)));
    }
    objects
}

fn kustomization(folder: &str) -> Value {
    serde_saphyr::from_str(&text(format!("{folder}/kustomization.yaml"))).unwrap()
}

fn listed(folder: &str) -> Vec<String> {
    let resources = kustomization(folder)["resources"].as_array().cloned().unwrap();
    resources.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

/// Returns the pods' specifications of all workloads, each with its file's name.
fn pods(folder: &str) -> Vec<(String, Value)> {
    let all = objects(folder).into_iter();
    all.map(|(file, object)| (file, object["spec"]["template"]["spec"].clone()))
        .filter(|(_, spec)| !spec.is_null())
        .collect()
}

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    let lists = [&spec["containers"], &spec["initContainers"]];
    lists.into_iter().filter_map(|list| list.as_array()).flatten()
}

#[test]
fn the_kustomizations_list_every_file() {
    for folder in [FOLDER, PAGES] {
        check_list(folder);
    }
}

fn check_list(folder: &str) {
    let kustomization = kustomization(folder);
    let generated = kustomization["configMapGenerator"].as_array().unwrap().iter();
    let sources = generated.flat_map(|map| [&map["files"], &map["envs"]]);
    let sources = sources.filter_map(|list| list.as_array()).flatten();
    let sources = sources.map(|source| source.as_str().unwrap());
    let sources = sources.map(|source| source.rsplit('=').next().unwrap().to_owned());
    let known: BTreeSet<String> =
        sources.chain(listed(folder)).filter(|name| !name.starts_with("../")).collect();
    let inside = files_with("").into_iter().filter(|path| path.parent() == Some(Path::new(folder)));
    let names = inside.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    let names: BTreeSet<String> = names.filter(|name| name != "kustomization.yaml").collect();
    assert_eq!(names, known);
}

#[test]
fn every_image_is_made_by_a_package_that_the_builder_knows_as_an_add_on() {
    let config = load(&root().join("build.toml"), Arch::X86_64).unwrap();
    let image = |name: &&str| config.package(name).image().unwrap().name.clone();
    let made: BTreeSet<String> = ADD_ONS.iter().map(image).collect();
    let pods = pods(FOLDER);
    let used = pods.iter().flat_map(|(_, spec)| containers(spec));
    let used: BTreeSet<String> =
        used.map(|container| container["image"].as_str().unwrap().to_owned()).collect();
    assert_eq!(made, used);
}

#[test]
fn every_pod_keeps_the_rules() {
    let wrong = pods(FOLDER).into_iter().flat_map(|(file, spec)| {
        offences(&spec).into_iter().map(move |offence| format!("{file}: {offence}"))
    });
    none("docs/packages.md has the reasons", wrong);
}

/// A cluster works without its websites, so their pods have no class of priority.
#[test]
fn every_pod_of_pages_keeps_the_other_rules() {
    let wrong = pods(PAGES).into_iter().flat_map(|(file, spec)| {
        let offences = offences(&spec).into_iter().filter(|offence| offence != "priorityClassName");
        offences.map(move |offence| format!("{file}: {offence}"))
    });
    none("docs/packages.md has the reasons", wrong);
    for (file, spec) in pods(PAGES) {
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true, "{file}");
        for container in containers(&spec) {
            assert_eq!(container["image"], "kiln.local/pages:latest", "{file}");
        }
    }
}

/// Returns the fields that a pod lacks.
fn offences(spec: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            wrong.push(what.to_owned());
        }
    };
    must(spec["priorityClassName"].is_string(), "priorityClassName");
    must(spec["securityContext"]["seccompProfile"].is_object(), "securityContext.seccompProfile");
    for container in containers(spec) {
        let security = &container["securityContext"];
        must(container["resources"]["requests"].is_object(), "resources.requests");
        must(security["readOnlyRootFilesystem"] == true, "readOnlyRootFilesystem");
        must(security["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation: false");
        must(security["capabilities"]["drop"] == json!(["ALL"]), "capabilities.drop: [ALL]");
        // With `Always`, the default for the tag `latest`, no pod starts while the registry is away.
        must(container["imagePullPolicy"] == "IfNotPresent", "imagePullPolicy: IfNotPresent");
        let probed =
            ["livenessProbe", "readinessProbe"].iter().all(|key| container[key].is_object());
        must(
            probed || container["restartPolicy"].is_null() && is_init(spec, container),
            "two probes",
        );
    }
    wrong
}

fn is_init(spec: &Value, container: &Value) -> bool {
    spec["initContainers"].as_array().is_some_and(|list| list.contains(container))
}

#[test]
fn the_missing_fields_of_a_pod_are_reported() {
    let offences = offences(&json!({ "containers": [{ "image": "i" }] }));
    assert_eq!(offences.len(), 8, "{offences:?}");
}
