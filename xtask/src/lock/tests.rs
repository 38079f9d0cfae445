use super::*;
use proptest::prelude::*;

fn package(name: &str, arch: &str) -> Package {
    Package {
        name: name.to_owned(),
        arch: arch.to_owned(),
        version: "1:2.0~rc1+deb13u1-1".to_owned(),
        archive: Archive::Debian,
        path: format!("pool/main/x/{name}_2.0_{arch}.deb"),
        size: 7,
        sha256: Digest::of_bytes(name.as_bytes()),
        stands_for: None,
    }
}

fn closure(name: &str, packages: &[&str]) -> Closure {
    let packages = packages.iter().map(|name| (*name).to_owned()).collect();
    Closure { name: name.to_owned(), arch: "amd64".to_owned(), packages }
}

fn debian() -> Debian {
    Debian { suite: "trixie".to_owned(), snapshot: "20261121T000000Z".parse().unwrap() }
}

fn sample() -> Lock {
    let meta = Package {
        stands_for: Some("linux-image-6.12".to_owned()),
        ..package("linux-image", "amd64")
    };
    let packages = vec![
        package("zlib1g", "amd64"),
        package("seabios", "all"),
        meta,
        package("linux-image-6.12", "amd64"),
    ];
    Lock::new(debian(), packages, vec![closure("seabios", &["zlib1g", "seabios"])]).unwrap()
}

#[test]
fn what_is_written_reads_back_and_is_sorted() {
    let text = sample().render().unwrap();
    assert_eq!(Lock::parse(FILE, &text).unwrap(), sample());
    assert!(text.starts_with("# Written by `cargo xtask update`"), "{text}");
    assert!(text.find("linux-image").unwrap() < text.find("zlib1g").unwrap(), "{text}");
    assert!(text.contains("packages = [\"seabios\", \"zlib1g\"]"), "{text}");
}

#[test]
fn a_name_without_files_gives_the_package_it_stands_for() {
    assert_eq!(sample().package("linux-image", "amd64").unwrap().name, "linux-image-6.12");
}

#[test]
fn a_package_for_all_architectures_is_found_for_each() {
    assert_eq!(sample().package("seabios", "arm64").unwrap().arch, "all");
    let names: Vec<_> =
        sample().closure("seabios", "amd64").unwrap().iter().map(|p| p.name.clone()).collect();
    assert_eq!(names, ["seabios", "zlib1g"]);
}

#[test]
fn an_unknown_name_says_how_to_resolve_it() {
    for error in [
        sample().package("nano", "amd64").unwrap_err(),
        sample().closure("zlib1g", "amd64").unwrap_err(),
    ] {
        assert!(error.to_string().contains("run `cargo xtask update`"), "{error}");
    }
}

#[test]
fn an_error_names_file_and_line() {
    let check = |change: fn(String) -> String, expected: &str| {
        let error =
            format!("{:#}", Lock::parse(FILE, &change(sample().render().unwrap())).unwrap_err());
        assert!(error.contains(expected), "{error}");
    };
    check(|text| text.replacen("suite", "sweet", 1), "build.lock:5: unknown field `sweet`");
    check(|text| text.replacen("size = 7", "size = \"7\"", 1), "build.lock:14: invalid type");
    check(
        |text| text.replacen("debian\"", "ubuntu\"", 1),
        "build.lock:12: unknown variant `ubuntu`",
    );
    check(
        |text| text.replacen("20261121T0", "20261121 0", 1),
        "build.lock:6: `20261121 000000Z` is no snapshot",
    );
    check(|text| text.replacen("sha256 = \"", "sha256 = \"0", 1), "build.lock:15: ");
    check(|text| text + "\nmore = 1\n", "unknown field `more`");
}

#[test]
fn parts_that_do_not_fit_together_are_refused() {
    let check = |packages: Vec<Package>, closures: Vec<Closure>, expected: &str| {
        let error = format!("{:#}", Lock::new(debian(), packages, closures).unwrap_err());
        assert!(error.contains(expected), "{error}");
    };
    let a = || package("a", "amd64");
    let with_path = |path: &str| vec![Package { path: path.to_owned(), ..a() }];
    check(vec![a(), a()], vec![], "twice");
    check(vec![a()], vec![closure("a", &["a", "b"])], "`b` for amd64 is not in build.lock");
    check(vec![a()], vec![closure("a", &[])], "lacks the package itself");
    check(with_path("pool/../../x"), vec![], "no path in an archive's pool");
    check(with_path("/pool/main/x"), vec![], "no path in an archive's pool");
    check(with_path("pool/main/x?y"), vec![], "no path in an archive's pool");
    check(
        vec![Package { stands_for: Some("b".to_owned()), ..a() }],
        vec![],
        "`b` for amd64 is not",
    );
}

#[test]
fn changes_name_old_and_new_version() {
    let newer = Package { version: "3.0".to_owned(), ..package("a", "amd64") };
    let old =
        Lock::new(debian(), vec![package("a", "amd64"), package("b", "all")], vec![]).unwrap();
    let new = Lock::new(debian(), vec![newer, package("c", "all")], vec![]).unwrap();
    assert_eq!(
        old.changes(&new),
        [
            "a (amd64): 1:2.0~rc1+deb13u1-1 -> 3.0",
            "b (all): 1:2.0~rc1+deb13u1-1 removed",
            "c (all): 1:2.0~rc1+deb13u1-1 added"
        ]
    );
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
