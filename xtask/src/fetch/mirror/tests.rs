use super::*;
use proptest::prelude::*;

fn mirrors(entries: &[Entry]) -> (Option<String>, Option<String>) {
    let mut mirrors = Mirrors::default();
    mirrors.add(entries);
    (mirrors.debian, mirrors.security)
}

fn check(entries: &[Entry], debian: Option<&str>, security: Option<&str>) {
    assert_eq!(mirrors(entries), (debian.map(str::to_owned), security.map(str::to_owned)));
}

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

#[test]
fn one_line_sources_give_archive_and_security_mirror() {
    let text = "\
# deb http://old.example.org/debian bookworm main
deb cdrom:[Debian GNU/Linux 12]/ bookworm main
deb-src http://src.example.org/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/docker.gpg] https://docker.example.org/linux/debian bookworm stable main
deb http://mirror.example.org/debian/ bookworm main contrib # near
deb http://second.example.org/debian bookworm main
deb\thttp://security.example.org/debian-security  bookworm-security main\n";
    let security = "http://security.example.org/debian-security";
    check(&parse_list(text), Some("http://mirror.example.org/debian"), Some(security));
}

#[test]
fn deb822_sources_give_archive_and_security_mirror() {
    let text = format!(
        "Types: deb deb-src\n# a comment\nURIs: http://mirror.example.org/debian\nSuites: trixie trixie-updates\nComponents: main\nSigned-By: {KEYRING}\n\n\
         Types: deb\nURIs:\n https://security.example.org/debian-security\nSuites:\n trixie-security\nComponents: main\nSigned-By:\n {KEYRING}\n"
    );
    let security = "https://security.example.org/debian-security";
    check(&parse_deb822(&text), Some("http://mirror.example.org/debian"), Some(security));
}

#[test]
fn other_vendors_are_not_mirrors() {
    let text = "\
deb https://cloud.example.org/apt cloud-sdk-bookworm main
deb https://pg.example.org/pub/repos/apt bookworm-pgdg main
deb [signed-by=/etc/apt/keyrings/vendor.asc] https://apt.example.org bookworm main
deb [signed-by=0123456789ABCDEF0123456789ABCDEF01234567] https://apt2.example.org stable main
deb http://archive.example.org/ubuntu noble main
deb https://repo.example.org/deb ./\n";
    check(&parse_list(text), None, None);
    let inline = "Types: deb\nURIs: https://apt.example.org/debian\nSuites: trixie\nComponents: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEY865UxYJKwYBBAHaRw8BAQdAd7Z0srwuhlB6JKFkcf4HU4SSS/xcRfwEQWzr\n";
    check(&parse_deb822(inline), None, None);
}

#[test]
fn debians_own_key_takes_precedence_over_order() {
    let text = format!(
        "deb https://apt.example.org stable main\ndeb http://a.example.org/debian bookworm main\ndeb [signed-by={KEYRING}] http://b.example.org/d bookworm main\n"
    );
    let entries = parse_list(&text);
    check(&entries, Some("http://b.example.org/d"), None);
    check(&entries[..2], Some("http://a.example.org/debian"), None);
    check(&entries[..1], Some("https://apt.example.org"), None);
}

#[test]
fn disabled_and_source_paragraphs_do_not_count() {
    let text = "Enabled: no\nTypes: deb\nURIs: http://a.example.org/debian\nSuites: trixie\nComponents: main\n\n\
                Types: deb-src\nURIs: http://b.example.org/debian\nSuites: trixie\nComponents: main\n";
    check(&parse_deb822(text), None, None);
}

#[test]
fn a_file_of_mirrors_is_read() {
    let read = |path: &str| {
        assert_eq!(path, "/etc/apt/mirrors/debian.list");
        Some("# near\nhttps://mirror.example.org/debian priority:1\n".to_owned())
    };
    let uri = || "mirror+file:///etc/apt/mirrors/debian.list".to_owned();
    assert_eq!(resolve_list(uri(), read), ["https://mirror.example.org/debian"]);
    assert!(resolve_list(uri(), |_| None).is_empty());
    assert_eq!(resolve_list("http://x.test/debian".to_owned(), read), ["http://x.test/debian"]);
}

#[test]
fn the_environment_takes_precedence_and_implies_a_security_mirror() {
    let environment = |variables: &[(&str, &str)]| {
        Mirrors::from_environment(|name| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into())
        })
    };
    let mut mirrors =
        environment(&[(DEBIAN, "https://m.test/debian/"), (SNAPSHOT, "http://s.test/archive")])
            .unwrap();
    mirrors.add(&parse_list("deb http://a.example.org/debian bookworm main"));
    assert_eq!(mirrors.of(Archive::Debian).unwrap(), "https://m.test/debian");
    assert_eq!(mirrors.of(Archive::DebianSecurity).unwrap(), "https://m.test/debian-security");
    assert_eq!(mirrors.snapshot.as_deref(), Some("http://s.test/archive"));
    assert_eq!(environment(&[(DEBIAN, "https://m.test/deb")]).unwrap().security, None);
    let error = environment(&[(SECURITY, "ftp://m.test")]).unwrap_err().to_string();
    assert_eq!(error, "KILN_DEBIAN_SECURITY_MIRROR must be an http:// or https:// address");
}

#[test]
fn the_error_for_a_missing_mirror_names_the_variable_to_set() {
    let error = Mirrors::default().of(Archive::DebianSecurity).unwrap_err().to_string();
    assert!(error.contains("`debian-security`; set KILN_DEBIAN_SECURITY_MIRROR"), "{error}");
}

#[test]
fn the_mirror_comes_before_the_snapshots() {
    let mirrors = Mirrors {
        debian: Some("http://m.test/debian".to_owned()),
        security: None,
        snapshot: Some("http://s.test/archive".to_owned()),
    };
    let origin = Origin::Pool {
        archive: Archive::Debian,
        path: "pool/main/x/x_1+2~3_amd64.deb".to_owned(),
        snapshot: "20261121T000000Z".parse().unwrap(),
        renew: String::new(),
    };
    assert_eq!(
        mirrors.candidates(&origin).unwrap(),
        [
            "http://m.test/debian/pool/main/x/x_1%2b2%7e3_amd64.deb",
            "http://s.test/archive/debian/20261121T000000Z/pool/main/x/x_1%2b2%7e3_amd64.deb"
        ]
    );
}

proptest! {
    #[test]
    fn a_list_has_at_most_one_entry_per_line(text in "((deb |#|deb-src )[a-z:/. ]{0,20}\n){0,6}|.*") {
        prop_assert!(parse_list(&text).len() <= text.lines().count());
    }

    #[test]
    fn text_like_apt_sources_gives_only_http_mirrors(
        lines in prop::collection::vec("(deb|deb-src|Types:|URIs:|Suites:|Components:| |#)( deb| \\[[a-z=]{0,5}\\]?| http://x.test/debian/?| file:/x| trixie| trixie-security| main){0,5}", 0..8)
    ) {
        let text = lines.join("\n");
        let (debian, security) = mirrors(&[parse_list(&text), parse_deb822(&text)].concat());
        prop_assert!(debian.iter().chain(&security).all(|uri| is_http(uri) && !uri.ends_with('/')));
    }
}
