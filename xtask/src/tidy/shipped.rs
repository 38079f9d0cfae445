//! Rules about shipped configuration: build files, kernels, packages, manifests.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{files_with, none, root, text};
use crate::arch::Arch;
use crate::build::load;
use crate::config::Config;
use crate::scenario;

/// A build file that exists only in these tests.
const PROBE: &str = "probe.toml";

/// Pods that are shipped but not in the default image; users add them to a build file.
const OFF_BY_DEFAULT: [&str; 1] = ["gateway"];

/// Reads the repository as if it had one more build file with this text.
fn load_with(build: &str) -> anyhow::Result<Config> {
    let probe = root().join(PROBE);
    let read = |path: &Path| -> io::Result<String> {
        if path == probe { Ok(build.to_owned()) } else { std::fs::read_to_string(path) }
    };
    Config::load(&read, &probe, Arch::X86_64)
}

/// Returns a build file that inherits the default image and overrides it with these lines.
fn inheriting(lines: &str) -> String {
    format!("inherit = \"build.toml\"\n{lines}\n")
}

/// Returns the stems of the files directly in a folder.
fn stems(folder: &str, suffix: &str) -> Vec<String> {
    let inside =
        files_with(suffix).into_iter().filter(|path| path.parent() == Some(Path::new(folder)));
    inside.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// Returns the names of all packages.
fn packages() -> Vec<String> {
    let files = files_with("pkg.toml").into_iter().filter(|path| path.starts_with("pkgs"));
    files
        .map(|path| path.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned())
        .collect()
}

/// Returns the build files: `build.toml`, and files with the key `inherit`.
fn build_files() -> Vec<PathBuf> {
    let is_build = |path: &PathBuf| {
        let text = text(path);
        let table = toml::from_str::<toml::Table>(&text);
        path == Path::new("build.toml") || table.is_ok_and(|table| table.contains_key("inherit"))
    };
    files_with(".toml").into_iter().filter(is_build).collect()
}

#[test]
fn every_shipped_build_file_parses() {
    let failed =
        build_files().into_iter().filter_map(|path| load(&root().join(path), Arch::X86_64).err());
    none("build files that do not load", failed.map(|error| format!("{error:#}")));
}

#[test]
fn every_shipped_scenario_parses() {
    assert!(!scenario::load(&root().join("tests/vm/scenarios")).unwrap().is_empty());
}

#[test]
fn every_shipped_kernel_parses() {
    for kernel in stems("kernel", ".toml") {
        load_with(&inheriting(&format!("kernel = \"{kernel}\""))).unwrap();
    }
}

#[test]
fn every_package_and_manifest_parses_and_every_image_is_made_by_a_package() {
    let (packages, pods) = (packages(), stems("manifests", ".yaml"));
    let config =
        load_with(&inheriting(&format!("packages = {packages:?}\npods = {pods:?}"))).unwrap();
    assert_eq!((config.listed.len(), config.pods.len()), (packages.len(), pods.len()));
}

#[test]
fn every_package_has_a_description_and_a_licence() {
    let config = load_with(&inheriting(&format!("packages = {:?}", packages()))).unwrap();
    let one_sentence =
        |about: &str| !about.is_empty() && !about.ends_with('.') && !about.contains('\n');
    let poor = config
        .packages
        .values()
        .filter(|package| package.license.is_empty() || !one_sentence(&package.about));
    none(
        "`about` must be one sentence without a final stop, `license` an SPDX expression",
        poor.map(|package| &package.name),
    );
}

#[test]
fn every_program_in_the_image_has_a_smoke_command() {
    let config = load(&root().join("build.toml"), Arch::X86_64).unwrap();
    // These packages have no program.
    let only_data = ["ca-certificates"];
    let listed = config.listed.iter().filter(|name| !only_data.contains(&name.as_str()));
    let listed = listed.map(|name| config.package(name));
    none(
        "no [smoke]",
        listed.filter(|package| package.smoke.is_none()).map(|package| &package.name),
    );
}

#[test]
fn every_manifest_is_in_the_default_image_or_off_by_default() {
    let config = load(&root().join("build.toml"), Arch::X86_64).unwrap();
    let shipped = stems("manifests", ".yaml");
    let in_image = |stem: &str| config.pods.iter().any(|pod| pod.name == stem);
    none(
        "manifests in no image",
        shipped.iter().filter(|stem| !in_image(stem) && !OFF_BY_DEFAULT.contains(&stem.as_str())),
    );
    let build = text("build.toml");
    none(
        "off by default, but not mentioned in build.toml, or in the image",
        OFF_BY_DEFAULT
            .iter()
            .filter(|stem| in_image(stem) || !build.contains(&format!("`{stem}`"))),
    );
}

#[test]
fn every_manifest_keeps_the_rules_for_static_pods() {
    let mut wrong = Vec::new();
    for stem in stems("manifests", ".yaml") {
        let pod: Value = serde_saphyr::from_str(&text(format!("manifests/{stem}.yaml"))).unwrap();
        wrong.extend(
            pod_offences(&stem, &pod).into_iter().map(|offence| format!("{stem}: {offence}")),
        );
    }
    none("docs/packages.md has the reasons", wrong);
}

/// Returns the files of the example in docs/packages.md: their paths, and the code that follows each.
fn example() -> BTreeMap<PathBuf, String> {
    let page = text("docs/packages.md");
    let mut files = BTreeMap::new();
    for part in page.split("\n`mynode/").skip(1) {
        let (path, rest) = part.split_once('`').unwrap();
        let code = rest.split_once("\n```").unwrap().1;
        let (_, code) = code.split_once('\n').unwrap();
        files.insert(
            Path::new("/mynode").join(path),
            code.split_once("\n```").unwrap().0.to_owned() + "\n",
        );
    }
    files
}

#[test]
fn the_example_of_a_package_outside_this_repository_loads() {
    let example = example();
    let read = |path: &Path| -> io::Result<String> {
        match path.strip_prefix("/kiln") {
            Ok(ours) => std::fs::read_to_string(root().join(ours)),
            Err(_) => example.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into()),
        }
    };
    let config = Config::load(&read, Path::new("/mynode/build.toml"), Arch::X86_64).unwrap();
    assert_eq!(config.package("hello").folder, Path::new("/mynode/pkgs/hello"));
    assert!(config.ports().contains(&8081));
    assert!(example.contains_key(Path::new("/mynode/pkgs/hello/main.go")));
    let pod: Value =
        serde_saphyr::from_str(&example[Path::new("/mynode/manifests/hello.yaml")]).unwrap();
    assert_eq!(pod_offences("hello", &pod), Vec::<String>::new());
}

/// Returns the fields that a static pod of ours lacks; no admission controller adds them.
fn pod_offences(stem: &str, pod: &Value) -> Vec<String> {
    let spec = &pod["spec"];
    let mut wrong = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            wrong.push(what.to_owned());
        }
    };
    must(pod["metadata"]["name"] == stem, "metadata.name is not the file's name");
    must(
        spec["priorityClassName"].is_string() && spec["priority"].is_i64(),
        "priorityClassName and priority together",
    );
    must(spec["automountServiceAccountToken"] != true, "a static pod has no service account");
    let lists = [&spec["containers"], &spec["initContainers"]];
    for container in lists.iter().filter_map(|list| list.as_array()).flatten() {
        let security = &container["securityContext"];
        must(container["resources"]["requests"].is_object(), "resources.requests");
        must(security["readOnlyRootFilesystem"] == true, "readOnlyRootFilesystem");
        must(
            security["capabilities"]["drop"] == serde_json::json!(["ALL"]),
            "capabilities.drop: [ALL]",
        );
        must(security["privileged"] != true, "privileged");
        must(container["imagePullPolicy"] == "Never", "imagePullPolicy: Never");
    }
    let probed = |container: &Value| {
        container["livenessProbe"].is_object() || container["readinessProbe"].is_object()
    };
    must(
        spec["containers"].as_array().is_some_and(|all| all.iter().all(probed)),
        "a probe for each container",
    );
    wrong
}

#[test]
fn the_missing_fields_of_a_manifest_are_reported() {
    let pod = serde_json::json!({ "metadata": { "name": "x" }, "spec": { "containers": [{ "image": "i" }] } });
    let offences = pod_offences("y", &pod);
    assert_eq!(offences.len(), 7, "{offences:?}");
}
