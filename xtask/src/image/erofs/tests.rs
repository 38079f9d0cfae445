use super::*;

fn settings(compression: Compression) -> Settings {
    Settings { compression, cluster: 65536, modules: Compression::Lzma(6) }
}

#[test]
fn an_uncompressed_image_has_no_cluster_size() {
    let given = |compression| arguments(settings(compression), &[]).join(" ");
    assert!(given(Compression::Lz4hc(12)).ends_with("-b4096 -Eztailpacking -zlz4hc,12 -C65536"));
    assert!(given(Compression::Zstd(9)).ends_with("-zzstd,9 -C65536"));
    assert!(given(Compression::None).ends_with("-b4096"));
}

#[test]
fn modules_of_groups_have_an_algorithm_of_their_own() {
    let modules = ["/usr/lib/modules/6.12+deb13/kernel/fs/xfs/xfs.ko".to_owned()];
    let settings = settings(Compression::Lz4hc(12));
    assert!(arguments(settings, &modules).join(" ").ends_with("-zlz4hc,12:lzma,6 -C65536"));
    assert_eq!(
        hints(settings, &modules),
        "65536 1 usr/lib/modules/6[.]12[+]deb13/kernel/fs/xfs/xfs[.]ko$\n"
    );
}

#[test]
fn a_tool_that_is_missing_leaves_no_image() {
    let dir = tempfile::tempdir().unwrap();
    let mkfs = HostTool::new(dir.path(), "mkfs.erofs");
    let out = dir.path().join("out");
    let settings = settings(Compression::None);
    let error =
        write(&mkfs, &Tree::default(), settings, &[], &out, dir.path()).unwrap_err().to_string();
    assert!(error.contains("not among the host tools"), "{error}");
    assert!(!out.exists());
}

#[test]
fn the_size_on_disk_is_read_from_the_dump() {
    let text = "Path : /a\nSize: 60133502  On-disk size: 23031808  regular file\nNID: 1\n";
    assert_eq!(on_disk(text), Some(23_031_808));
    assert_eq!(on_disk("<E> erofs: read inode failed"), None);
}
