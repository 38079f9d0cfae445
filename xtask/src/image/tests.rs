use std::fs;

use super::*;
use crate::tree::{Node, Tree};

/// Returns a tree with every kind of node; no format stores the owner.
pub(crate) fn sample() -> Tree {
    let mut tree = Tree::default();
    let file = |bytes: &[u8]| Content::Bytes(bytes.into());
    let deep = format!("/deep/{}/{}", "d".repeat(90), "f".repeat(90));
    for (path, node) in [
        ("/init", Node::File(0o755, file(b"\x7fELF"))),
        ("/etc/empty", Node::File(0o600, file(b""))),
        ("/etc/hosts", Node::File(0o644, file(b"127.0.0.1 localhost\n"))),
        ("/tmp", Node::Dir(0o1777)),
        ("/bin", Node::Link("usr/bin".into())),
        ("/usr/bin/up", Node::Link("./../../init".into())),
        ("/usr/far", Node::Link(format!("../{}", "t".repeat(200)))),
        (deep.as_str(), Node::File(0o644, file(&[7; 5000]))),
    ] {
        tree.add(path, "sample", node).unwrap();
    }
    tree
}

#[test]
fn a_cache_entry_of_another_length_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("entry");
    fs::write(&path, b"12345").unwrap();
    let copied = |size| copy(&Content::Cached { path: path.clone(), size }, &mut Vec::new());
    assert!(copied(5).is_ok());
    for wrong in [4, 6] {
        let error = format!("{:#}", copied(wrong).unwrap_err());
        assert!(error.contains("does not have its stored length"), "{error}");
    }
}

#[test]
fn padding_reaches_the_next_multiple_and_no_further() {
    for (written, expected) in [(0, 0), (1, 3), (3, 1), (4, 0)] {
        let mut out = Vec::new();
        pad(&mut out, written, 4).unwrap();
        assert_eq!(out, vec![0; expected]);
    }
}

/// Reads a tar stream: path, kind, mode, time, link target, content.
pub(super) fn read_tar(bytes: &[u8]) -> Vec<(String, Node, u64)> {
    let mut found = Vec::new();
    for entry in ::tar::Archive::new(bytes).entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        let mode = u16::try_from(header.mode().unwrap()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let path = text(&entry.path_bytes());
        let node = match header.entry_type() {
            ::tar::EntryType::Directory => Node::Dir(mode),
            ::tar::EntryType::Symlink => Node::Link(text(&entry.link_name_bytes().unwrap())),
            ::tar::EntryType::Regular => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                Node::File(mode, Content::Bytes(content.into()))
            }
            other => panic!("{other:?}"),
        };
        found.push((format!("/{}", path.trim_end_matches('/')), node, header.mtime().unwrap()));
    }
    found
}

/// Returns the expected result of [`read_tar`] for a tree.
pub(super) fn listed(tree: &Tree, time: u64) -> Vec<(String, Node, u64)> {
    tree.iter().map(|(path, entry)| (path.to_string(), entry.node.clone(), time)).collect()
}

#[test]
fn a_tar_stream_read_back_is_the_tree() {
    let tree = sample();
    let mut bytes = Vec::new();
    tar::write(&tree, 12, &mut bytes).unwrap();
    assert_eq!(read_tar(&bytes), listed(&tree, 12));
}
