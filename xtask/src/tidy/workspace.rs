//! Rules about crates: the allowed dependencies, and the membership in the workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{files_with, none, table};

/// Tables of a manifest that name dependencies.
const DEPENDENCIES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// The crate of shared names, which every other crate may use.
const CONTRACT: &str = "init/contract";

/// Small routines that every other crate may use.
const BASE: &str = "base";

/// The parts that all pods share.
const DAEMON: &str = "pkgs/daemon";

/// The parts that network servers share.
const SERVER: &str = "pkgs/server";

/// The parts that programs for clusters share.
const CONTROLLER: &str = "pkgs/controller";

/// The web server, whose library the pages service uses.
const STATIC_SERVER: &str = "pkgs/static-server";

/// The pages service.
const PAGES: &str = "pkgs/pages";

/// The harness of the tests that start a server.
const TEST_SUPPORT: &str = "pkgs/test-support";

/// The build host's processes and machines, which the builder and its benchmarks share.
const HOST: &str = "xtask/host";

/// True if one folder's crate may depend on another's. Every edge that is not listed is forbidden.
fn allowed(from: &str, to: &str) -> bool {
    match to {
        CONTRACT | BASE => ![CONTRACT, BASE].contains(&from),
        DAEMON => from.starts_with("pkgs/") && ![DAEMON, TEST_SUPPORT].contains(&from),
        SERVER => from.starts_with("pkgs/") && ![SERVER, DAEMON, TEST_SUPPORT].contains(&from),
        STATIC_SERVER if from == PAGES => true,
        CONTROLLER => [PAGES, "pkgs/node-controller"].contains(&from),
        TEST_SUPPORT => from.starts_with("pkgs/") && from != TEST_SUPPORT,
        HOST => ["benches/peers", "xtask"].contains(&from),
        // A fuzz target is part of the crate that it lies in.
        _ => from.strip_suffix("/fuzz") == Some(to),
    }
}

/// Returns the folders of all crates, including fuzz targets.
fn crates() -> Vec<String> {
    let manifests =
        files_with("Cargo.toml").into_iter().filter(|path| path != Path::new("Cargo.toml"));
    manifests.map(|path| path.parent().unwrap().to_str().unwrap().to_owned()).collect()
}

fn manifest(folder: &str) -> Table {
    table(Path::new(folder).join("Cargo.toml"))
}

fn is_fuzz(folder: &str) -> bool {
    folder.ends_with("/fuzz")
}

/// Returns every dependency of a crate: its name and its value in the manifest.
fn dependencies(manifest: &Table) -> Vec<(String, Value)> {
    let tables = DEPENDENCIES.iter().filter_map(|kind| manifest.get(*kind)?.as_table());
    tables.flatten().map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Returns the names of the workspace's shared dependencies, with the folders of those inside it.
fn shared() -> BTreeMap<String, Option<String>> {
    let workspace = table("Cargo.toml");
    let shared = workspace["workspace"]["dependencies"].as_table().unwrap();
    let path = |value: &Value| value.get("path").and_then(Value::as_str).map(str::to_owned);
    shared.iter().map(|(name, value)| (name.clone(), path(value))).collect()
}

/// Returns the folder of a dependency that is part of this repository.
fn folder_of(
    from: &str,
    name: &str,
    value: &Value,
    shared: &BTreeMap<String, Option<String>>,
) -> Option<String> {
    match value.get("path").and_then(Value::as_str) {
        Some(path) => Some(joined(from, path)),
        None => shared.get(name)?.clone(),
    }
}

/// Joins a folder and a relative path, and resolves `..`.
fn joined(from: &str, path: &str) -> String {
    let mut out = PathBuf::from(from);
    for part in Path::new(path).components() {
        match part {
            std::path::Component::ParentDir => drop(out.pop()),
            other => out.push(other),
        }
    }
    out.to_str().unwrap().to_owned()
}

#[test]
fn crates_depend_on_each_other_in_one_direction_only() {
    let shared = shared();
    let mut wrong = Vec::new();
    for from in crates() {
        for (name, value) in dependencies(&manifest(&from)) {
            let to = folder_of(&from, &name, &value, &shared);
            wrong.extend(to.filter(|to| !allowed(&from, to)).map(|to| format!("{from} -> {to}")));
        }
    }
    none("dependencies that docs/architecture.md rules out", wrong);
}

#[test]
fn every_crate_is_a_member_of_the_workspace_or_a_fuzz_target() {
    let workspace = table("Cargo.toml");
    let members: Vec<&str> = workspace["workspace"]["members"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let crates = crates();
    let lost =
        crates.iter().filter(|folder| !is_fuzz(folder) && !members.contains(&folder.as_str()));
    none("not a member", lost);
    let gone = members.iter().filter(|member| !crates.iter().any(|folder| folder == *member));
    none("a member without a Cargo.toml", gone);
    assert!(members.is_sorted(), "members are sorted by name");
}

#[test]
fn every_crate_takes_lints_and_package_data_from_the_workspace() {
    let inherits = |table: Option<&Value>| {
        table.is_some_and(|key| key.get("workspace") == Some(&Value::Boolean(true)))
    };
    let mut wrong = Vec::new();
    for folder in crates().into_iter().filter(|folder| !is_fuzz(folder)) {
        let manifest = manifest(&folder);
        if manifest.get("lints").and_then(|lints| lints.get("workspace"))
            != Some(&Value::Boolean(true))
        {
            wrong.push(format!("{folder}: no `[lints] workspace = true`"));
        }
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            if !inherits(manifest["package"].get(key)) {
                wrong.push(format!("{folder}: no `{key}.workspace = true`"));
            }
        }
    }
    none("not inherited from the workspace", wrong);
}

#[test]
fn every_shared_dependency_is_used_and_every_used_one_is_shared() {
    let shared = shared();
    let mut used = BTreeSet::new();
    let mut own = Vec::new();
    for folder in crates() {
        for (name, value) in dependencies(&manifest(&folder)) {
            let inherited = value.get("workspace") == Some(&Value::Boolean(true));
            if !inherited && !is_fuzz(&folder) {
                own.push(format!("{folder}: `{name}` has a version of its own"));
            }
            used.insert(name);
        }
    }
    none("not in [workspace.dependencies]", own);
    none(
        "in [workspace.dependencies], but unused",
        shared.keys().filter(|name| !used.contains(*name)),
    );
}

#[test]
fn the_direction_of_dependencies_is_enforced() {
    assert!(
        allowed("init", CONTRACT) && allowed("xtask", CONTRACT) && allowed("pkgs/dhcp", DAEMON)
    );
    assert!(allowed("init", BASE) && allowed("xtask", BASE) && allowed(DAEMON, BASE));
    assert!(allowed("init/fuzz", "init"));
    assert!(allowed("xtask", HOST) && allowed("benches/peers", HOST));
    for (from, to) in [
        ("init", "xtask"),
        ("xtask", "init"),
        ("pkgs/dhcp", "xtask"),
        ("pkgs/dhcp", "pkgs/ntp"),
        ("init", DAEMON),
        ("init", SERVER),
        (DAEMON, SERVER),
        ("xtask", DAEMON),
        ("xtask", "benches/peers"),
        ("benches/peers", "xtask"),
        ("init", HOST),
        (HOST, "xtask"),
        (CONTRACT, DAEMON),
        (BASE, CONTRACT),
        (CONTRACT, BASE),
        ("init/fuzz", "xtask"),
    ] {
        assert!(!allowed(from, to), "{from} -> {to}");
    }
    assert_eq!(joined("init/fuzz", ".."), "init");
    assert_eq!(joined("pkgs/dhcp", "../daemon"), "pkgs/daemon");
}
