use std::io::Read;

use super::super::tests::sample;
use super::*;
use crate::tree::Content;

/// Reads an archive up to its trailer, after which only zeros may follow.
fn read(mut bytes: &[u8]) -> Vec<(String, Numbers, Vec<u8>)> {
    let mut found = Vec::new();
    loop {
        let mut reader = newc::Reader::new(bytes).unwrap();
        let entry = reader.entry();
        let numbers = Numbers {
            inode: entry.ino(),
            mode: entry.mode(),
            owner: (entry.uid(), entry.gid()),
            links: entry.nlink(),
            time: entry.mtime(),
        };
        let (name, is_trailer) = (entry.name().to_owned(), entry.is_trailer());
        let mut data = Vec::new();
        reader.read_to_end(&mut data).unwrap();
        bytes = reader.finish().unwrap();
        if is_trailer {
            assert!(bytes.iter().all(|byte| *byte == 0));
            return found;
        }
        found.push((name, numbers, data));
    }
}

/// The numbers of an entry's header that the writer chooses.
#[derive(Debug, PartialEq, Eq)]
struct Numbers {
    inode: u32,
    mode: u32,
    owner: (u32, u32),
    links: u32,
    time: u32,
}

fn written(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    let length = write(tree, &mut bytes).unwrap();
    assert_eq!(length, bytes.len() as u64);
    bytes
}

#[test]
fn an_archive_read_back_is_the_tree() {
    let tree = sample();
    let bytes = written(&tree);
    assert_eq!(bytes.len() % 512, 0);
    let found = read(&bytes);
    assert_eq!(found.len(), tree.iter().count());
    for ((number, (path, entry)), (name, numbers, data)) in (1..).zip(tree.iter()).zip(found) {
        let (mode, expected) = match &entry.node {
            Node::Dir(mode) => (0o040_000 | u32::from(*mode), vec![]),
            Node::File(mode, Content::Bytes(bytes)) => {
                (0o100_000 | u32::from(*mode), bytes.to_vec())
            }
            Node::File(..) => panic!("the sample is in memory"),
            Node::Link(target) => (0o120_777, target.clone().into_bytes()),
        };
        assert_eq!((name.as_str(), &data), (path.relative(), &expected));
        let links = numbers.links;
        assert_eq!(numbers, Numbers { inode: number, mode, owner: (0, 0), links, time: 0 });
    }
}

#[test]
fn a_folder_counts_its_subfolders_as_links() {
    let mut tree = Tree::default();
    for path in ["/a/b", "/a/c/d"] {
        tree.add(path, "t", Node::Dir(0o755)).unwrap();
    }
    let found = read(&written(&tree)).into_iter();
    let links: Vec<_> = found.map(|(name, numbers, _)| (name, numbers.links)).collect();
    let expected =
        [("a", 4), ("a/b", 2), ("a/c", 3), ("a/c/d", 2)].map(|(name, n)| (name.to_owned(), n));
    assert_eq!(links, expected);
}

#[test]
fn an_entry_that_the_kernel_would_skip_or_misread_is_refused() {
    let huge = Content::Cached { path: "/nowhere".into(), size: 1 << 32 };
    let long = format!("/{}", "x/".repeat(2100) + "y");
    for (path, node, message) in [
        ("/huge", Node::File(0o644, huge), "4 GiB"),
        ("/TRAILER!!!", Node::Dir(0o755), "ends the archive"),
        (&long, Node::Dir(0o755), "longer than 4096"),
        ("/link", Node::Link("x".repeat(4096)), "longer than 4096"),
    ] {
        let mut tree = Tree::default();
        tree.add(path, "t", node).unwrap();
        let error = format!("{:#}", write(&tree, &mut Vec::new()).unwrap_err());
        assert!(error.contains(message), "{error}");
    }
}
