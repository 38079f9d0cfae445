//! Folders of every kind on the disk.

use super::{Limits, Scan, scan, split};
use crate::folder::walk::survey;
use crate::index::policy::Policy;
use crate::index::{Coding, Index, Kind};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, SystemTime};

const SMALL: Limits = Limits { memory: 1 << 20, open_files: 10 };

fn read(root: &Path) -> Scan {
    scan(root, &SMALL, None).unwrap()
}

fn text(site: &Index, path: &str) -> Option<String> {
    let Kind::Resource(number) = site.find(path.as_bytes())? else { return Some("way".into()) };
    let variants = site.variants(&site.resources[number as usize]);
    Some(match site.memory(variants[0].body) {
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        None => "file".into(),
    })
}

fn check(site: &Index, path: &str, expected: Option<&str>) {
    assert_eq!(text(site, path).as_deref(), expected, "{path}");
}

#[test]
fn files_folders_and_their_index_pages_have_paths() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("a/b")).unwrap();
    fs::create_dir_all(root.path().join(".well-known")).unwrap();
    for path in ["index.html", "a/b/index.html", "a/x.txt", ".secret", ".well-known/y", "_headers"]
    {
        fs::write(root.path().join(path), path).unwrap();
    }
    let site = read(root.path()).into_index(&Policy::default()).unwrap();
    check(&site, "/", Some("index.html"));
    check(&site, "/index.html", Some("index.html"));
    check(&site, "/a/x.txt", Some("a/x.txt"));
    check(&site, "/a/b", Some("way"));
    check(&site, "/a/b/", Some("a/b/index.html"));
    check(&site, "/.well-known/y", Some(".well-known/y"));
    for path in ["/a/", "/.secret", "/_headers"] {
        check(&site, path, None);
    }
}

#[test]
fn links_are_followed_inside_and_never_out() {
    let parent = tempfile::tempdir().unwrap();
    let root = parent.path().join("root");
    fs::create_dir_all(root.join("..data-1/deep")).unwrap();
    fs::write(parent.path().join("secret"), "secret").unwrap();
    fs::write(root.join("..data-1/page"), "page").unwrap();
    fs::write(root.join("..data-1/deep/x"), "x").unwrap();
    symlink("../page", root.join("..data-1/deep/up")).unwrap();
    symlink("..data-1", root.join("..data")).unwrap();
    symlink("..data/page", root.join("page")).unwrap();
    symlink("..data/deep", root.join("deep")).unwrap();
    symlink("../secret", root.join("out")).unwrap();
    symlink(parent.path().join("secret"), root.join("absolute")).unwrap();
    symlink(".", root.join("loop")).unwrap();
    symlink("none", root.join("nowhere")).unwrap();
    symlink("/proc/self/exe", root.join("magic")).unwrap();
    let found = read(&root);
    assert_eq!(found.left_out.len(), 5);
    assert!(found.left_out.iter().all(|left| left.error.is_none()));
    let site = found.into_index(&Policy::default()).unwrap();
    assert_eq!(site.unread, 0);
    check(&site, "/page", Some("page"));
    check(&site, "/deep/x", Some("x"));
    check(&site, "/deep/up", Some("page"));
    for path in ["/out", "/absolute", "/loop/page", "/nowhere", "/magic", "/..data/page"] {
        check(&site, path, None);
    }
}

#[test]
fn an_error_names_the_missing_folder() {
    let error = scan("/nowhere/at/all".as_ref(), &SMALL, None).unwrap_err();
    assert!(format!("{error:#}").starts_with("cannot open the folder /nowhere/at/all: "));
}

#[test]
fn sidecars_are_used_unless_they_are_clearly_older() {
    let root = tempfile::tempdir().unwrap();
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    for (name, seconds) in [("a.js", 10), ("a.js.br", 8), ("a.js.gz", 7), ("a.js.zst", 11)] {
        let path = root.path().join(name);
        fs::write(&path, name).unwrap();
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(then + Duration::from_secs(seconds)).unwrap();
    }
    let found = read(root.path());
    let item = found.files.iter().find(|item| item.path == b"/a.js").unwrap();
    let codings: Vec<Coding> = item.variants.iter().map(|variant| variant.coding).collect();
    assert_eq!(codings, [Coding::Identity, Coding::Zstd, Coding::Brotli]);
    assert_eq!(item.modified, Some(1_000_010));
}

#[test]
fn equal_content_is_held_once() {
    let root = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fs::write(root.path().join(name), vec![b'x'; 1000]).unwrap();
    }
    let found = read(root.path());
    assert_eq!(found.stores[0].memory_bytes(), 1000);
    let bodies: Vec<_> = found.files.iter().map(|file| file.variants[0].body).collect();
    assert_eq!(bodies[0], bodies[2]);
}

#[test]
fn above_the_limit_the_largest_files_stay_open() {
    let root = tempfile::tempdir().unwrap();
    for (name, size) in [("small", 10), ("large", 5000), ("larger", 6000)] {
        fs::write(root.path().join(name), vec![b'x'; size]).unwrap();
    }
    let site = |memory| {
        let found = scan(root.path(), &Limits { memory, open_files: 2 }, None).unwrap();
        found.into_index(&Policy::default()).unwrap()
    };
    check(&site(5010), "/larger", Some("file"));
    assert_eq!(text(&site(5010), "/large").unwrap().len(), 5000);
    check(&site(5009), "/large", Some("file"));
    check(&site(5009), "/small", Some("xxxxxxxxxx"));
    assert!(scan(root.path(), &Limits { memory: 5009, open_files: 1 }, None).is_err());
}

#[test]
fn the_split_leaves_as_much_in_memory_as_fits() {
    let split = |memory, open_files| split(vec![1, 5, 3, 3], &Limits { memory, open_files });
    assert_eq!(split(12, 0).unwrap(), (12, u64::MAX));
    assert_eq!(split(7, 1).unwrap(), (7, 5));
    assert_eq!(split(6, 3).unwrap(), (1, 3));
    assert_eq!(split(0, 4).unwrap(), (0, 1));
    assert!(split(6, 2).is_err());
}

#[test]
fn the_signature_changes_with_the_folder() {
    let root = tempfile::tempdir().unwrap();
    let look = || survey(root.path(), 2).unwrap().signature;
    let empty = look();
    fs::write(root.path().join("a"), "1").unwrap();
    let one = look();
    assert_ne!(empty, one);
    assert_eq!(one, read(root.path()).signature);
    fs::rename(root.path().join("a"), root.path().join("b")).unwrap();
    assert_ne!(look(), one);
}

#[test]
fn any_number_of_threads_finds_the_same() {
    let root = tempfile::tempdir().unwrap();
    for folder in 0..40 {
        let folder = root.path().join(format!("{folder}/deep"));
        fs::create_dir_all(&folder).unwrap();
        for file in 0..20 {
            fs::write(folder.join(format!("{file}.txt")), format!("text {file}")).unwrap();
        }
        fs::write(folder.join("../0.html"), "page").unwrap();
    }
    // More names than a thread takes at once.
    (0..700).for_each(|file| fs::write(root.path().join(format!("f{file}")), "flat").unwrap());
    symlink("7/deep", root.path().join("link")).unwrap();
    let found = read(root.path());
    let paths: Vec<&[u8]> = found.files.iter().map(|file| file.path).collect();
    assert_eq!(paths.len(), 40 * 21 + 700 + 20);
    assert!(paths.is_sorted_by(|a, b| a < b), "each path once");
    // Equal bodies of different threads are held once, too.
    let texts: u64 = (0..20).map(|file| format!("text {file}").len() as u64).sum();
    assert_eq!(found.stores[0].memory_bytes(), texts + 8);
    for threads in [1, 2, 7] {
        assert_eq!(survey(root.path(), threads).unwrap().signature, found.signature);
    }
    let site = found.into_index(&Policy::default()).unwrap();
    check(&site, "/link/3.txt", Some("text 3"));
    check(&site, "/39/0.html", Some("page"));
}

#[test]
fn names_need_not_be_text() {
    let root = tempfile::tempdir().unwrap();
    let name = OsStr::from_bytes(b"a\xff \n");
    fs::write(root.path().join(name), "odd").unwrap();
    let site = read(root.path()).into_index(&Policy::default()).unwrap();
    let Some(Kind::Resource(number)) = site.find(b"/a\xff \n") else { panic!("no resource") };
    let variant = site.variants(&site.resources[number as usize])[0];
    assert_eq!(site.memory(variant.body).unwrap(), b"odd");
}

#[test]
fn only_files_and_folders_are_content() {
    let root = tempfile::tempdir().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.path().join("socket")).unwrap();
    let found = read(root.path());
    assert_eq!((found.files.len(), found.left_out.len()), (0, 1));
}

/// Acts as a user other than root, so that the kernel checks this thread's access to files.
fn without_privileges<T>(act: impl FnOnce() -> T) -> T {
    // SAFETY: the call changes only this thread's user for file access. It cannot fail for root,
    // and any other user needs no change.
    let before = unsafe { libc::setfsuid(65534) };
    let result = act();
    // SAFETY: as above.
    unsafe { libc::setfsuid(u32::try_from(before).unwrap()) };
    result
}

#[test]
fn an_unreadable_file_is_named_and_the_others_are_served() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("shut")).unwrap();
    for path in ["page", "locked", "shut/x"] {
        fs::write(root.path().join(path), path).unwrap();
    }
    for (path, mode) in [("", 0o755), ("locked", 0), ("shut", 0)] {
        fs::set_permissions(root.path().join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let found = without_privileges(|| read(root.path()));
    let looked = without_privileges(|| survey(root.path(), 2).unwrap().signature);
    assert_eq!(found.signature, looked, "a check must find the same state as reading");
    let told: Vec<String> = found.left_out.iter().map(ToString::to_string).collect();
    let denied = "cannot be read: Permission denied (os error 13)";
    assert_eq!(told, [format!("/locked {denied}"), format!("/shut {denied}")]);
    let site = found.into_index(&Policy::default()).unwrap();
    assert_eq!(site.unread, 2);
    check(&site, "/page", Some("page"));
    check(&site, "/locked", None);
    fs::set_permissions(root.path().join("shut"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn rules_are_read_whole_or_refused() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("_redirects");
    let line = format!("#{}\n", "x".repeat(998));
    fs::write(&path, [line.repeat(4000), "/a /b\n".to_owned()].concat()).unwrap();
    assert!(read(root.path()).rules.redirect(b"/a").is_some());
    fs::write(&path, line.repeat(4500)).unwrap();
    let error = scan(root.path(), &SMALL, None).unwrap_err();
    let told = "_redirects has 4500000 bytes, and at most 4194304 are read; shorten its comments";
    assert!(format!("{error:#}").ends_with(told), "{error:#}");
}

#[test]
fn deep_folders_are_served_or_named_with_the_reason() {
    let root = tempfile::tempdir().unwrap();
    let deep = |levels: usize| format!("/{}", "d/".repeat(levels));
    fs::create_dir_all(root.path().join(&deep(130)[1..])).unwrap();
    for levels in [60, 127, 128] {
        fs::write(root.path().join(&format!("{}x", deep(levels))[1..]), "x").unwrap();
    }
    let found = read(root.path());
    let told: Vec<String> = found.left_out.iter().map(ToString::to_string).collect();
    let reason = "cannot be read: it is nested deeper than 128 folders";
    assert_eq!(told, [format!("{} {reason}", deep(128).trim_end_matches('/'))]);
    let site = found.into_index(&Policy::default()).unwrap();
    assert_eq!(site.unread, 1);
    check(&site, &format!("{}x", deep(60)), Some("x"));
    check(&site, &format!("{}x", deep(127)), Some("x"));
}
