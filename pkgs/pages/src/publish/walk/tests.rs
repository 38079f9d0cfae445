use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Bounds, Stop, walk};
use crate::publish::tree::{Blob, Entry, EntryKind, Objects};

/// Trees in memory; the number of an object is its place in the list.
#[derive(Default)]
struct Memory(Vec<Object>);

enum Object {
    Folder(Vec<Entry<usize>>),
    File(Vec<u8>),
}

impl Objects for Memory {
    type Id = usize;
    type Error = String;

    fn folder(&self, id: &usize) -> Result<Vec<Entry<usize>>, String> {
        match &self.0[*id] {
            Object::Folder(entries) => Ok(entries.clone()),
            Object::File(_) => Err("a file".to_owned()),
        }
    }

    fn file(&self, id: &usize) -> Result<Blob, String> {
        match &self.0[*id] {
            Object::File(bytes) => Ok(Blob::Bytes(bytes.clone())),
            Object::Folder(_) => Err("a folder".to_owned()),
        }
    }
}

impl Memory {
    fn add_file(&mut self, content: &str) -> usize {
        self.0.push(Object::File(content.into()));
        self.0.len() - 1
    }

    fn add_folder(&mut self, entries: &[(&str, EntryKind, usize)]) -> usize {
        let entry = |(name, kind, id): &(&str, EntryKind, usize)| Entry {
            name: name.as_bytes().to_vec(),
            kind: *kind,
            id: *id,
        };
        self.0.push(Object::Folder(entries.iter().map(entry).collect()));
        self.0.len() - 1
    }
}

const FILE: EntryKind = EntryKind::File;
const FOLDER: EntryKind = EntryKind::Folder;
const LINK: EntryKind = EntryKind::Link;

/// Makes a tree from paths; a content that begins with `->` is a link.
fn tree(files: &[(&str, &str)]) -> (Memory, usize) {
    let mut memory = Memory::default();
    let files: Vec<(Vec<&str>, &str)> =
        files.iter().map(|(path, content)| (path.split('/').collect(), *content)).collect();
    let root = level(&mut memory, &files);
    (memory, root)
}

fn level(memory: &mut Memory, files: &[(Vec<&str>, &str)]) -> usize {
    let mut folders: BTreeMap<&str, Vec<(Vec<&str>, &str)>> = BTreeMap::new();
    let mut entries = Vec::new();
    for (path, content) in files {
        match &path[..] {
            [name] => match content.strip_prefix("->") {
                Some(target) => entries.push((*name, LINK, memory.add_file(target))),
                None => entries.push((*name, FILE, memory.add_file(content))),
            },
            [name, rest @ ..] => folders.entry(name).or_default().push((rest.to_vec(), content)),
            [] => {}
        }
    }
    for (name, below) in folders {
        entries.push((name, FOLDER, level(memory, &below)));
    }
    memory.add_folder(&entries)
}

/// Returns `path=content` of every file, then the notes.
fn published(files: &[(&str, &str)], path: &str) -> Vec<String> {
    let (memory, root) = tree(files);
    let found = walk(&memory, root, path, &Bounds::default()).unwrap();
    let line = |(path, id): (&Vec<u8>, &usize)| {
        format!("{}={}", String::from_utf8_lossy(path), memory.file_text(*id))
    };
    found.files.iter().map(line).chain(found.notes.lines()).collect()
}

impl Memory {
    fn file_text(&self, id: usize) -> String {
        match &self.0[id] {
            Object::File(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Object::Folder(_) => "a folder".to_owned(),
        }
    }
}

#[test]
fn only_the_site_s_folder_is_published_and_no_hidden_name() {
    let files = [
        ("secret.txt", "s"),
        ("docs/index.html", "i"),
        ("docs/.git/config", "c"),
        ("docs/.env", "e"),
        ("docs/.well-known/security.txt", "w"),
    ];
    assert_eq!(published(&files, "/docs/"), ["/.well-known/security.txt=w", "/index.html=i"]);
    assert_eq!(published(&files, "docs").len(), 2);
    let (memory, root) = tree(&files);
    for path in ["none", "docs/index.html", "../docs"] {
        let stop = walk(&memory, root, path, &Bounds::default()).unwrap_err();
        assert_eq!(stop, Stop::NoFolder(path.to_owned()));
    }
}

#[test]
fn links_within_the_site_are_resolved() {
    let files = [
        ("site/a.html", "a"),
        ("site/b/c.html", "c"),
        ("site/b/up.html", "->../a.html"),
        ("site/b/near.html", "->c.html"),
        ("site/again.html", "->b/up.html"),
        ("site/folder", "->b"),
        ("site/self", "->./b/../b"),
    ];
    let expected = [
        "/a.html=a",
        "/again.html=a",
        "/b/c.html=c",
        "/b/near.html=c",
        "/b/up.html=a",
        "/folder/c.html=c",
        "/folder/near.html=c",
        "/folder/up.html=a",
        "/self/c.html=c",
        "/self/near.html=c",
        "/self/up.html=a",
    ];
    assert_eq!(published(&files, "site"), expected);
}

#[test]
fn links_out_of_the_site_dangling_links_and_loops_are_left_out() {
    let files = [
        ("secret", "s"),
        ("site/.env", "e"),
        ("site/1", "->../secret"),
        ("site/2", "->/etc/passwd"),
        ("site/3", "->a/../../secret"),
        ("site/a/x", "x"),
        ("site/4", "->.env"),
        ("site/5", "->none"),
        ("site/6", "->6"),
        ("site/7", "->."),
        ("site/8", "->a/x/y"),
        ("site/a/9", "->.."),
    ];
    let expected = [
        "/a/x=x",
        "/1 is a link that leaves the site; left out",
        "/2 is a link that leaves the site; left out",
        "/3 is a link that leaves the site; left out",
        "/4 is a link that leaves the site; left out",
        "/5 is a link without a target; left out",
        "/6 is a link in a loop; left out",
        "/7 is a link in a loop; left out",
        "/8 is a link without a target; left out",
        "/a/9 is a link in a loop; left out",
    ];
    assert_eq!(published(&files, "site"), expected);
}

#[test]
fn links_that_multiply_folders_end_at_the_limit_of_files() {
    let mut files = vec![("f0/a".to_owned(), "x".to_owned())];
    for level in 1..12 {
        for copy in 0..10 {
            files.push((format!("f{level}/l{copy}"), format!("->../f{}", level - 1)));
        }
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let (memory, root) = tree(&files);
    let bounds = Bounds { files: 1000, ..Bounds::default() };
    assert_eq!(walk(&memory, root, "", &bounds).unwrap_err(), Stop::TooMany(1000));
}

#[test]
fn hostile_names_and_deep_paths_are_left_out() {
    let mut memory = Memory::default();
    let file = memory.add_file("x");
    let names = ["..", ".", "", "a/b", "a\0b", "a\nb", ".GIT", "ok"];
    let entries = names.map(|name| (name, FILE, file));
    let mut root = memory.add_folder(&entries);
    let found = walk(&memory, root, "", &Bounds::default()).unwrap();
    assert_eq!(found.files.into_keys().collect::<Vec<_>>(), [b"/ok"]);
    assert_eq!(found.notes.lines().len(), 4, "names that begin with a dot are hidden");
    for _ in 0..40 {
        root = memory.add_folder(&[("a", FOLDER, root)]);
    }
    let found = walk(&memory, root, "", &Bounds::default()).unwrap();
    assert!(found.files.is_empty());
    assert!(found.notes.lines()[0].ends_with("too deep or too long; left out"));
}

#[test]
fn submodules_and_confusable_names_are_noted() {
    let mut memory = Memory::default();
    let file = memory.add_file("x");
    let root = memory.add_folder(&[
        ("README", FILE, file),
        ("caf\u{e9}", FILE, file),
        ("cafe\u{301}", FILE, file),
        ("module", EntryKind::Submodule, file),
        ("readme", FILE, file),
    ]);
    let found = walk(&memory, root, "", &Bounds::default()).unwrap();
    let expected = [
        "/module is a submodule; left out",
        "/caf\u{e9} differs from /cafe\u{301} only in the form of its letters",
        "/readme differs from /README only in the form of its letters",
    ];
    assert_eq!(found.notes.lines(), expected);
    assert_eq!(found.files.len(), 4);
}

proptest! {
    #[test]
    fn no_link_reaches_a_file_outside_of_the_site(
        targets in proptest::collection::vec("(\\.\\./|/|a/|b/|\\./|secret|l[0-3]|x){1,5}", 1..5)
    ) {
        let contents: Vec<String> = targets.iter().map(|target| format!("->{target}")).collect();
        let names: Vec<String> = (0..targets.len()).map(|at| format!("site/a/l{at}")).collect();
        let mut files = vec![("secret", "SECRET"), ("site/a/x", "x"), ("site/b/x", "y")];
        files.extend(names.iter().zip(&contents).map(|(a, b)| (a.as_str(), b.as_str())));
        for line in published(&files, "site") {
            prop_assert!(!line.ends_with("=SECRET"), "{}", line);
        }
    }
}
