use std::io::Write;
use std::os::unix::fs::MetadataExt;

use liblzma::write::XzEncoder;
use proptest::prelude::*;
use tar::EntryType;
use tempfile::TempDir;

use super::*;

/// One entry of a test's package: kind, name, mode, contents or target.
type Item<'a> = (EntryType, &'a str, u32, &'a str);

const FILE: EntryType = EntryType::Regular;

/// Names are written into the header as they are: the library refuses to make bad ones.
fn tar(items: &[Item<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, name, mode, text) in items {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        let link = matches!(kind, EntryType::Symlink | EntryType::Link);
        if link {
            header.as_gnu_mut().unwrap().linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        let body = if link { "" } else { text };
        header.set_size(body.len() as u64);
        header.set_cksum();
        builder.append(&header, body.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = XzEncoder::new(Vec::new(), 1);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = ar::Builder::new(Vec::new());
    for (name, bytes) in members {
        builder
            .append(&ar::Header::new(name.as_bytes().to_vec(), bytes.len() as u64), *bytes)
            .unwrap();
    }
    builder.into_inner().unwrap()
}

fn deb(items: &[Item<'_>]) -> Vec<u8> {
    let data = xz(&tar(items));
    ar(&[("debian-binary", b"2.0\n"), ("control.tar.xz", b"not looked at"), ("data.tar.xz", &data)])
}

fn unpacked(items: &[Item<'_>]) -> Result<TempDir> {
    let dir = TempDir::new()?;
    unpack_from(&*deb(items), dir.path(), &|_| true)?;
    Ok(dir)
}

fn refused(items: &[Item<'_>], expected: &str) {
    let error = format!("{:#}", unpacked(items).unwrap_err());
    assert!(error.contains(expected), "{error}");
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn files_folders_and_links_come_out_with_their_modes() {
    let dir = unpacked(&[
        (EntryType::Directory, "./", 0o755, ""),
        (EntryType::Directory, "./usr/", 0o755, ""),
        (EntryType::Directory, "./usr/private/", 0o750, ""),
        (FILE, "./usr/bin/tool", 0o755, "run"),
        (FILE, "./usr/private/data", 0o640, "data"),
        (EntryType::Symlink, "./usr/bin/alias", 0o777, "../private/none"),
        (EntryType::Link, "./usr/bin/second", 0o755, "./usr/bin/tool"),
    ])
    .unwrap();
    let at = |path: &str| dir.path().join(path);
    assert_eq!(fs::read_to_string(at("usr/bin/tool")).unwrap(), "run");
    assert_eq!(
        [mode(&at("usr/bin/tool")), mode(&at("usr/private/data")), mode(&at("usr/private"))],
        [0o755, 0o640, 0o750]
    );
    assert_eq!(mode(&at("usr/bin")), 0o755, "a folder that the archive does not name");
    assert_eq!(fs::read_link(at("usr/bin/alias")).unwrap(), Path::new("../private/none"));
    let inode = |path| fs::metadata(at(path)).unwrap().ino();
    assert_eq!(inode("usr/bin/tool"), inode("usr/bin/second"));
}

#[test]
fn set_id_and_sticky_bits_are_dropped() {
    let dir = unpacked(&[
        (FILE, "./usr/bin/su", 0o6755, "x"),
        (EntryType::Directory, "./tmp/", 0o1777, ""),
    ])
    .unwrap();
    assert_eq!(mode(&dir.path().join("usr/bin/su")), 0o755);
    assert_eq!(mode(&dir.path().join("tmp")), 0o777);
}

#[test]
fn paths_before_the_merge_go_below_usr() {
    let dir = unpacked(&[
        (EntryType::Symlink, "./lib", 0o777, "usr/lib"),
        (EntryType::Directory, "./sbin/", 0o755, ""),
        (FILE, "./lib/modules/x.ko", 0o644, "module"),
        (FILE, "./sbin/depmod", 0o755, "x"),
        (EntryType::Link, "./sbin/modprobe", 0o755, "./sbin/depmod"),
        (FILE, "./libexec", 0o644, "not merged"),
    ])
    .unwrap();
    let found = |path: &str| dir.path().join(path).is_file();
    assert!(
        found("usr/lib/modules/x.ko")
            && found("usr/sbin/depmod")
            && found("usr/sbin/modprobe")
            && found("libexec")
    );
    assert!(!dir.path().join("lib").exists() && !dir.path().join("sbin").exists());
}

#[test]
fn paths_that_leave_the_folder_are_refused() {
    refused(&[(FILE, "../evil", 0o644, "")], "leaves the folder");
    refused(&[(FILE, "./usr/../../evil", 0o644, "")], "leaves the folder");
    refused(&[(EntryType::Link, "./passwd", 0o644, "../../etc/passwd")], "leaves the folder");
    let dir = unpacked(&[(FILE, "/absolute", 0o644, "x")]).unwrap();
    assert!(dir.path().join("absolute").exists(), "a leading slash means the folder's root");
}

#[test]
fn nothing_is_written_through_a_link() {
    let outside = TempDir::new().unwrap();
    let target = outside.path().to_str().unwrap();
    let link = (EntryType::Symlink, "./usr", 0o777, target);
    refused(&[link, (FILE, "./usr/file", 0o644, "x")], "is not a folder");
    refused(&[link, (EntryType::Directory, "./usr/", 0o755, "")], "is not a folder");
    refused(&[link, (EntryType::Link, "./x", 0o644, "./usr/file")], "is not a folder");
    refused(&[link, (FILE, "./usr", 0o644, "x")], "exists already");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn device_nodes_are_refused() {
    for kind in [EntryType::Block, EntryType::Char, EntryType::Fifo] {
        refused(&[(kind, "./dev/x", 0o666, "")], "neither file, folder nor link");
    }
}

#[test]
fn only_files_that_the_filter_accepts_are_unpacked() {
    let items = [
        (EntryType::Directory, "./usr/share/doc/", 0o755, ""),
        (FILE, "./usr/share/doc/x", 0o644, "x"),
        (FILE, "./usr/bin/x", 0o755, "x"),
        (EntryType::Block, "./dev/x", 0o666, ""),
    ];
    let dir = TempDir::new().unwrap();
    unpack_from(&*deb(&items), dir.path(), &|path| path == "/usr/bin/x").unwrap();
    assert!(dir.path().join("usr/bin/x").exists());
    assert!(!dir.path().join("usr/share").exists() && !dir.path().join("dev").exists());
    let linked = [(FILE, "./a", 0o644, "x"), (EntryType::Link, "./b", 0o644, "./a")];
    let error = unpack_from(&*deb(&linked), dir.path(), &|path| path == "/b").unwrap_err();
    assert!(format!("{error:#}").contains("hard link to /a, which was left out"), "{error:#}");
}

#[test]
fn a_file_that_is_not_a_package_is_named() {
    let dir = TempDir::new().unwrap();
    let check = |bytes: &[u8], expected: &str| {
        let error = format!("{:#}", unpack_from(bytes, dir.path(), &|_| true).unwrap_err());
        assert!(error.contains(expected), "{error}");
    };
    check(b"", "not an ar archive");
    check(&ar(&[("debian-binary", b"2.0\n")]), "it has no data.tar.xz");
    check(b"<html>log in</html>", "not an ar archive");
    check(&ar(&[("x", b"y")]), "it starts with `x`");
    check(&ar(&[("debian-binary", b"3.0\n")]), "its format version is `3.0`");
    check(
        &ar(&[("debian-binary", b"2.0\n"), ("data.tar.br", b"")]),
        "`data.tar.br` has an unknown compression",
    );
    let whole = deb(&[(FILE, "./x", 0o644, &"text".repeat(5000))]);
    check(&whole[..whole.len() - 40], "cannot");
}

#[test]
fn a_closure_unpacks_into_one_folder_and_a_file_in_two_packages_is_an_error() {
    let dir = TempDir::new().unwrap();
    let write = |name: &str, items: &[Item<'_>]| {
        let path = dir.path().join(name);
        fs::write(&path, deb(items)).unwrap();
        path
    };
    let a = write(
        "a.deb",
        &[(FILE, "./lib64/ld.so", 0o755, "x"), (FILE, "./usr/share/doc/a/x", 0o644, "x")],
    );
    let b = write(
        "b.deb",
        &[
            (EntryType::Directory, "./usr/lib64/", 0o755, ""),
            (FILE, "./usr/bin/b", 0o755, "x"),
            (FILE, "./usr/lib/x/gconv/a.so", 0o644, "x"),
            (FILE, "./usr/lib/x/gconv.so", 0o644, "x"),
        ],
    );
    let c = write("c.deb", &[(FILE, "./usr/bin/b", 0o755, "other")]);
    let into = |name: &str| {
        let path = dir.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let root = into("good");
    sysroot(&[a.clone(), b.clone()], &["gconv".to_owned()], &root).unwrap();
    assert!(root.join("lib/x/gconv.so").exists() && !root.join("lib/x/gconv").exists());
    assert!(root.join("lib64/ld.so").exists() && root.join("bin/b").exists());
    assert!(!root.join("usr/share/doc").exists());
    let error = format!("{:#}", sysroot(&[a, b, c], &[], &into("bad")).unwrap_err());
    assert!(error.contains("usr/bin/b exists already; another package has it too"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_name_stays_below_the_folder(name in "[./a-z\0]{0,12}|(lib|bin|\\.\\.|usr|/|\\.){0,8}") {
        if let Ok(Some(path)) = merged(&name) {
            let normal = |part| matches!(part, std::path::Component::Normal(_));
            prop_assert!(Path::new(&path).components().all(normal), "{}", path);
        }
    }

    #[test]
    fn a_damaged_package_writes_nothing_outside_the_folder(at in 0usize..400, byte: u8) {
        let dir = TempDir::new().unwrap();
        let into = dir.path().join("into");
        fs::create_dir(&into).unwrap();
        let data = tar(&[(FILE, "./x", 0o644, "x"), (EntryType::Symlink, "./y", 0o777, "x")]);
        let mut bytes = ar(&[("debian-binary", b"2.0\n"), ("data.tar", &data)]);
        bytes[at] = byte;
        let unpacked = unpack_from(&*bytes, &into, &|_| true);
        prop_assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        if unpacked.is_ok() {
            prop_assert!(fs::read_dir(&into).unwrap().count() <= 2);
        }
    }
}
