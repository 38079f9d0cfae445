//! One golden plan, and the inputs that must and must not change a step's digest.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::expect;

use super::{ARCHIVE, KERNEL, PODS, Plan, ROOT, UKI, staged};
use crate::config::Config;
use crate::config::tests::sample;
use crate::digest::Digest;
use crate::inputs::Inputs;
use crate::lock::{Archive, Lock, Locks, Package, Request};
use crate::source::crates::FETCH as CRATES;
use crate::source::{Facts, Toolchain};

fn locks(version: &str) -> Locks {
    let package = Package {
        name: "x-amd64".into(),
        arch: "amd64".into(),
        version: version.into(),
        archive: Archive::Debian,
        path: format!("pool/main/x/x_{version}.deb"),
        size: 1,
        sha256: Digest::of_bytes(version.as_bytes()),
        snapshot: "20261121T000000Z".parse().unwrap(),
    };
    let request = Request { package: "x-amd64".into(), arch: "amd64".into(), closure: false };
    let lock = Lock::new([(request, vec![package])]).unwrap();
    let layers = BTreeMap::from([("/r".into(), lock)]);
    Locks { layers, update: "cargo xtask update".into() }
}

fn inputs() -> Inputs {
    let digest = |text: &str| Digest::of_bytes(text.as_bytes());
    let facts = |name: &str| Facts { digest: digest(name), go_mod: "module tool\n".into() };
    Inputs {
        packer: None,
        workspace: "/r".into(),
        toolchain: toolchain("go1", "rustc 1"),
        facts: ["tool", "page", "init"].map(|name| (name.to_owned(), facts(name))).into(),
        rootfs: vec![Some(digest("rootfs"))],
        layout: String::new(),
    }
}

fn toolchain(go: &str, rust: &str) -> Toolchain {
    let cargo_lock = Some(Digest::of_bytes(b"lock"));
    let (go, rust, cc) = (go.into(), rust.into(), "cc 1".into());
    Toolchain { go, rust, cc, cargo_lock, ..Toolchain::default() }
}

fn config() -> Config {
    sample("/r/build.toml", "test", "test")
}

fn plan(config: &Config, inputs: &Inputs) -> Plan {
    Plan::new(config, &locks("1"), inputs).unwrap()
}

/// Returns the steps whose digest differs between two plans.
fn changed(a: &Plan, b: &Plan) -> BTreeSet<String> {
    let differs = |name: &&String| a.steps[*name].digest != b.steps[*name].digest;
    a.steps.keys().filter(differs).cloned().collect()
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[test]
fn the_plan_of_a_small_image() {
    let plan = plan(&config(), &inputs());
    let line = |step: &super::Step| format!("{}: {}\n", step.name, step.needs.join(", "));
    let text: String = plan.steps.values().map(line).collect();
    expect![[r"
        archive: package init, kernel, root.erofs, pods.erofs
        data template: package e2fsprogs
        fetch crates: 
        fetch init: 
        fetch tool: 
        kernel: package linux, package kmod
        package chromium: 
        package coredns: 
        package crane: 
        package docker-registry: 
        package e2fsprogs: 
        package erofs-utils: 
        package etcd: 
        package fcgiwrap: 
        package flannel: 
        package genisoimage: 
        package git: 
        package h2o: 
        package haproxy: 
        package init: fetch init
        package kernel-hardening-checker: 
        package kmod: 
        package kube-proxy: 
        package kubernetes: 
        package libnss-wrapper: 
        package lighttpd: 
        package linux: 
        package nfs-ganesha: 
        package nginx: 
        package nginx-stream: 
        package node-controller: 
        package openssh-server: 
        package ovmf: 
        package page: fetch crates
        package pages: 
        package qemu: 
        package slowhttptest: 
        package systemd-boot-efi: 
        package tool: fetch tool
        package ukify: 
        package virt-firmware: 
        pods.erofs: package erofs-utils, package page
        root.erofs: package erofs-utils, kernel, data template, package init, package tool
        uki: package systemd-boot-efi, kernel, archive, root.erofs, pods.erofs
    "]]
    .assert_eq(&text);
}

#[test]
fn equal_inputs_give_equal_digests() {
    assert!(changed(&plan(&config(), &inputs()), &plan(&config(), &inputs())).is_empty());
}

#[test]
fn a_changed_pod_does_not_touch_the_root() {
    let mut inputs = inputs();
    inputs.facts.get_mut("page").unwrap().digest = Digest::of_bytes(b"changed");
    let changed = changed(&plan(&config(), &self::inputs()), &plan(&config(), &inputs));
    assert_eq!(changed, names([&staged("page"), PODS, ARCHIVE, UKI]));
}

#[test]
fn a_changed_manifest_changes_the_pods_alone() {
    let other = sample("/r/manifests/page.yaml", "8080", "9090");
    let changed = changed(&plan(&config(), &inputs()), &plan(&other, &inputs()));
    assert_eq!(changed, names([PODS, ARCHIVE, UKI]));
}

#[test]
fn a_changed_parameter_changes_the_file_alone() {
    let other = sample("/r/build.toml", "rootfstype=ramfs", "rootfstype=ramfs\", \"quiet");
    assert_eq!(changed(&plan(&config(), &inputs()), &plan(&other, &inputs())), names([UKI]));
}

#[test]
fn another_compiler_builds_again_but_downloads_nothing() {
    let inputs = Inputs { toolchain: toolchain("go2", "rustc 2"), ..inputs() };
    let changed = changed(&plan(&config(), &self::inputs()), &plan(&config(), &inputs));
    for name in [&staged("tool"), &staged("page"), ROOT, UKI] {
        assert!(changed.contains(name), "{name}");
    }
    assert!(
        !changed.contains(CRATES) && !changed.contains("fetch tool") && !changed.contains(KERNEL)
    );
}

#[test]
fn another_locked_version_rebuilds_everything_after_it() {
    let (a, b) =
        (plan(&config(), &inputs()), Plan::new(&config(), &locks("2"), &inputs()).unwrap());
    let changed = changed(&a, &b);
    for name in [&staged("kmod"), KERNEL, ROOT, UKI] {
        assert!(changed.contains(name), "{name}");
    }
    assert!(!changed.contains(&staged("tool")));
}

#[test]
fn the_part_for_an_image_has_no_peers_of_benchmarks() {
    let plan = plan(&config(), &inputs());
    let part = plan.part(&[UKI]).unwrap();
    assert!(part.steps.contains_key(ROOT) && part.steps.contains_key(&staged("linux")));
    assert!(plan.steps.contains_key(&staged("nginx")));
    assert!(!part.steps.contains_key(&staged("nginx")));
    assert!(plan.part(&["no step"]).is_err());
}

#[test]
fn every_need_is_a_step_and_the_picture_shows_it() {
    let plan = plan(&config(), &inputs());
    let dot = plan.dot();
    for step in plan.steps.values() {
        for need in &step.needs {
            assert!(plan.steps.contains_key(need), "{} needs {need}", step.name);
            assert!(dot.contains(&format!("\"{need}\" -> \"{}\"", step.name)));
        }
    }
}

#[test]
fn a_crate_is_built_again_with_another_c_library() {
    let musl = "package = \"page\"\nlibc = \"kmod\"";
    let config = sample("/r/pkgs/page/pkg.toml", "package = \"page\"", musl);
    let before = plan(&config, &inputs());
    assert_eq!(before.steps[&staged("page")].needs, [CRATES.to_owned(), staged("kmod")]);
    assert!(changed(&plan(&self::config(), &inputs()), &before).contains(&staged("page")));
    let after = Plan::new(&config, &locks("2"), &inputs()).unwrap();
    assert!(changed(&before, &after).contains(&staged("page")));
}
