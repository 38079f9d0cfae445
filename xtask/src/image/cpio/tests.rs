use super::super::tests::sample;
use super::*;
use crate::tree::Content;

/// One entry as the kernel would read it.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    name: String,
    fields: [u32; 13],
    data: Vec<u8>,
}

/// Reads an archive to its trailer; the rest must be zeros.
fn read(bytes: &[u8]) -> Vec<Found> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        assert_eq!(&bytes[at..at + 6], b"070701");
        let fields: [u32; 13] = std::array::from_fn(|field| {
            let digits = &bytes[at + 6 + 8 * field..at + 14 + 8 * field];
            u32::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()
        });
        let (size, name_size) = (fields[6], fields[11]);
        let name = &bytes[at + 110..at + 110 + name_size as usize];
        let name = std::str::from_utf8(name).unwrap().strip_suffix('\0').unwrap().to_owned();
        let data = (at + 110 + name_size as usize).next_multiple_of(4);
        let end = data + size as usize;
        at = end.next_multiple_of(4);
        if name == "TRAILER!!!" {
            assert!(bytes[at..].iter().all(|byte| *byte == 0));
            return found;
        }
        found.push(Found { name, fields, data: bytes[data..end].to_vec() });
    }
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
    for ((number, (path, entry)), found) in (1..).zip(tree.iter()).zip(found) {
        let (mode, data) = match &entry.node {
            Node::Dir(mode) => (0o040_000 | u32::from(*mode), vec![]),
            Node::File(mode, Content::Bytes(bytes)) => {
                (0o100_000 | u32::from(*mode), bytes.to_vec())
            }
            Node::File(..) => panic!("the sample is in memory"),
            Node::Link(target) => (0o120_777, target.clone().into_bytes()),
        };
        let [inode, is_mode, uid, gid, _, time, ..] = found.fields;
        assert_eq!((found.name.as_str(), is_mode, &found.data), (path.relative(), mode, &data));
        assert_eq!((inode, uid, gid, time), (number, 0, 0, 0));
    }
}

#[test]
fn a_folder_counts_its_subfolders_as_links() {
    let mut tree = Tree::default();
    for path in ["/a/b", "/a/c/d"] {
        tree.add(path, "t", Node::Dir(0o755)).unwrap();
    }
    let links = |found: Found| (found.name, found.fields[4]);
    let links: Vec<_> = read(&written(&tree)).into_iter().map(links).collect();
    let expected =
        [("a", 4), ("a/b", 2), ("a/c", 3), ("a/c/d", 2)].map(|(name, n)| (name.to_owned(), n));
    assert_eq!(links, expected);
}

#[test]
fn what_the_kernel_would_skip_or_misread_is_refused() {
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
