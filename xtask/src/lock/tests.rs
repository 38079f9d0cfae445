use std::collections::BTreeSet;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn file(name: &str, arch: &str, version: &str) -> Package {
    Package {
        name: name.to_owned(),
        arch: arch.to_owned(),
        version: version.to_owned(),
        archive: Archive::Debian,
        path: format!("pool/main/x/{name}_{version}_{arch}.deb"),
        size: 7,
        sha256: Digest::of_bytes(format!("{name} {version}").as_bytes()),
        snapshot: "20261121T000000Z".parse().unwrap(),
    }
}

fn request(package: &str, arch: &str, closure: bool) -> Request {
    Request { package: package.to_owned(), arch: arch.to_owned(), closure }
}

/// A program with its library, a kernel whose name refers to another, both for amd64.
fn sample() -> Lock {
    Lock::new([
        (
            request("editor", "amd64", true),
            vec![file("editor", "amd64", "2.0"), file("data", "all", "1")],
        ),
        (request("linux-image", "amd64", false), vec![file("linux-image-6.12", "amd64", "6.12")]),
    ])
    .unwrap()
}

fn locks() -> Locks {
    let update = "cargo xtask update --config /own/build.toml".to_owned();
    Locks { layers: BTreeMap::from([("/own".into(), sample())]), update }
}

/// Updates `old` for amd64; every resolved package has the version 3.
fn update(old: &Lock, wanted: &[Request], moves: &[Request]) -> Lock {
    let wanted: BTreeSet<Request> = wanted.iter().cloned().collect();
    let draft = old.draft(&wanted, "amd64", |request| moves.contains(request));
    let snapshot: Snapshot = "20270101T000000Z".parse().unwrap();
    let newest = |name: &str| Package { snapshot: snapshot.clone(), ..file(name, "amd64", "3") };
    let resolved = draft.open.iter().map(|request| {
        let mut files = vec![newest(&request.package)];
        if request.closure {
            files.push(Package { snapshot: snapshot.clone(), ..file("data", "all", "1") });
            files.push(newest("libc6"));
        }
        (request.clone(), files)
    });
    let resolved = Lock::new(resolved).unwrap();
    draft.finish(old, &resolved).unwrap()
}

fn check_changes(old: &Lock, new: &Lock, expect: &Expect) {
    expect.assert_eq(&old.changes(new).join("\n"));
}

#[test]
fn the_file_is_sorted_and_reads_back() {
    let text = sample().render().unwrap();
    assert_eq!(Lock::parse(FILE, &text).unwrap(), sample());
    expect![[r#"
        # Written by `cargo xtask update`; do not edit.
        # The Debian packages that this folder's pkgs/ are made of, each pinned to a version and its sha256.

        [[pin]]
        name = "editor"
        arch = "amd64"
        closure = true
        packages = ["data", "editor"]

        [[pin]]
        name = "linux-image"
        arch = "amd64"
        packages = ["linux-image-6.12"]

        [[package]]
        name = "data"
        arch = "all"
        version = "1"
        archive = "debian"
        path = "pool/main/x/data_1_all.deb"
        size = 7
        sha256 = "2836a57b3d5aace52d0e543e74a855ad5b59534e20c0abd8bd30452b7aeeb3eb"
        snapshot = "20261121T000000Z"
    "#]]
    .assert_eq(&text[..text.find("\n[[package]]\nname = \"editor\"").unwrap()]);
}

#[test]
fn two_versions_of_a_package_are_distinguished() {
    let lock = Lock::new([
        (
            request("a", "amd64", true),
            vec![file("a", "amd64", "1"), file("libc6", "amd64", "2.41")],
        ),
        (
            request("b", "amd64", true),
            vec![file("b", "amd64", "1"), file("libc6", "amd64", "2.42")],
        ),
        (request("libc6", "arm64", false), vec![file("libc6", "arm64", "2.43")]),
    ])
    .unwrap();
    let text = lock.render().unwrap();
    assert!(text.contains("packages = [\"a\", \"libc6 2.41\"]"), "{text}");
    assert!(text.contains("packages = [\"b\", \"libc6 2.42\"]"), "{text}");
    assert!(text.contains("packages = [\"libc6\"]"), "{text}");
    assert_eq!(Lock::parse(FILE, &text).unwrap(), lock);
}

#[test]
fn a_name_without_files_has_the_version_of_the_package_it_stands_for() {
    let kernel = request("linux-image", "amd64", false);
    assert_eq!(locks().version(Path::new("/own"), "linux", &kernel).unwrap(), "6.12");
    let debs = locks().debs(Path::new("/own"), "linux", &kernel).unwrap();
    assert_eq!(debs[0].name, "linux-image-6.12_6.12_amd64.deb");
    let editor = request("editor", "amd64", true);
    assert_eq!(locks().version(Path::new("/own"), "editor", &editor).unwrap(), "2.0");
}

#[test]
fn a_missing_pin_names_the_files_and_the_next_step() {
    let error = locks().debs(Path::new("/own"), "nano", &request("nano", "amd64", false));
    expect!["/own/pkgs/nano/pkg.toml: `nano` for amd64 is not in /own/build.lock; run `cargo xtask update --config /own/build.toml` to add it"]
        .assert_eq(&error.unwrap_err().to_string());
}

#[test]
fn a_file_knows_the_command_that_renews_its_pin() {
    let debs = locks().debs(Path::new("/own"), "ed", &request("editor", "amd64", true)).unwrap();
    let Origin::Pool { renew, .. } = &debs[0].origin else { panic!("not in a pool") };
    assert_eq!(renew, "cargo xtask update --config /own/build.toml ed");
}

#[test]
fn an_update_adds_what_is_missing_and_leaves_the_rest_alone() {
    let (editor, kernel) =
        (request("editor", "amd64", true), request("linux-image", "amd64", false));
    let curl = request("curl", "amd64", true);
    let new = update(&sample(), &[editor.clone(), kernel.clone(), curl], &[]);
    assert_eq!(new.files(&editor), sample().files(&editor));
    assert_eq!(new.files(&kernel), sample().files(&kernel));
    check_changes(
        &sample(),
        &new,
        &expect![[r"
            curl (amd64): 3 added
            libc6 (amd64): 3 added"]],
    );
}

#[test]
fn an_update_moves_only_the_named_pins() {
    let (editor, kernel) =
        (request("editor", "amd64", true), request("linux-image", "amd64", false));
    let new = update(&sample(), &[editor.clone(), kernel.clone()], std::slice::from_ref(&editor));
    assert_eq!(new.files(&kernel), sample().files(&kernel));
    check_changes(
        &sample(),
        &new,
        &expect![[r"
            editor (amd64): 2.0 -> 3
            libc6 (amd64): 3 added"]],
    );
    let data = new.files(&editor).unwrap().iter().find(|file| file.name == "data").unwrap();
    assert_eq!(data.snapshot.as_str(), "20261121T000000Z", "an unchanged file keeps its snapshot");
}

#[test]
fn the_pins_of_a_removed_package_are_removed() {
    let new = update(&sample(), &[request("linux-image", "amd64", false)], &[]);
    check_changes(
        &sample(),
        &new,
        &expect![[r"
            data (all): 1 removed
            editor (amd64): 2.0 removed"]],
    );
    assert!(update(&sample(), &[], &[]).is_empty());
}

#[test]
fn pins_of_another_architecture_stay_as_long_as_their_package_is_there() {
    let (here, there) = (request("ed", "amd64", false), request("ed", "arm64", false));
    let old = Lock::new([(there.clone(), vec![file("ed", "arm64", "1")])]).unwrap();
    let new = update(&old, &[here.clone(), there.clone()], &[here.clone(), there.clone()]);
    assert_eq!(new.files(&there), old.files(&there));
    assert!(new.files(&here).is_some());
    assert!(update(&old, &[], &[]).is_empty());
}

#[test]
fn an_error_names_file_line_and_repair() {
    let check = |change: fn(String) -> String, expected: &str| {
        let error =
            format!("{:#}", Lock::parse(FILE, &change(sample().render().unwrap())).unwrap_err());
        assert!(error.starts_with(expected), "{error}");
        assert!(error.contains("delete it and run `cargo xtask update`"), "{error}");
    };
    check(|text| text.replacen("arch", "arc", 1), "build.lock:6: unknown field `arc`");
    check(|text| text.replacen("size = 7", "size = \"7\"", 1), "build.lock:21: invalid type");
    check(
        |text| text.replacen("archive = \"debian", "archive = \"ubuntu", 1),
        "build.lock:19: unknown variant `ubuntu`",
    );
    check(
        |text| text.replacen("20261121T0", "20261121 0", 1),
        "build.lock:23: `20261121 000000Z` is not a snapshot",
    );
    check(|text| text.replacen("sha256 = \"", "sha256 = \"0", 1), "build.lock:22: ");
    check(
        |text| text.replacen("[\"data\", ", "[\"date\", ", 1),
        "build.lock: the pin `editor` for amd64: there is no package `date`",
    );
}

#[test]
fn inconsistent_pins_are_refused() {
    let check = |closure: bool, files: Vec<Package>, expected: &str| {
        let pin = (request("a", "amd64", closure), files);
        let error = format!("{:#}", Lock::new([pin]).unwrap_err());
        assert!(error.contains(expected), "{error}");
    };
    let a = || file("a", "amd64", "1");
    let with_path = |path: &str| vec![Package { path: path.to_owned(), ..a() }];
    check(true, vec![a(), a()], "has `a` twice");
    check(true, vec![file("b", "amd64", "1")], "lacks the package itself");
    check(false, vec![], "lacks the package itself");
    check(false, with_path("pool/../../x"), "not a path in an archive's pool");
    check(false, with_path("/pool/main/x"), "not a path in an archive's pool");
    check(false, with_path("pool/main/x?y"), "not a path in an archive's pool");
    let other = Package { sha256: Digest::of_bytes(b"other"), ..a() };
    let pins =
        [(request("a", "amd64", false), vec![a()]), (request("a", "amd64", true), vec![other])];
    let error = Lock::new(pins).unwrap_err().to_string();
    assert!(error.contains("is two different files"), "{error}");
}

proptest! {
    #[test]
    fn any_text_parses_or_is_refused_with_its_file(text: String) {
        if let Err(error) = Lock::parse(FILE, &text) {
            let text = format!("{error:#}");
            prop_assert!(text.contains(FILE), "{}", text);
        }
    }
}
