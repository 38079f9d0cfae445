use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;

use static_server::pack::open::{contents, verify};

use super::{Built, PackError, build};
use crate::digest::Digest;
use crate::publish::note::Notes;
use crate::publish::reuse::Reuse;
use crate::publish::tree::{Blob, Entry, Objects};
use crate::publish::walk::Files;

/// Contents by number.
struct Memory(Vec<Vec<u8>>);

impl Objects for Memory {
    type Id = usize;
    type Error = Infallible;

    fn folder(&self, _: &usize) -> Result<Vec<Entry<usize>>, Infallible> {
        Ok(Vec::new())
    }

    fn file(&self, id: &usize) -> Result<Blob, Infallible> {
        let bytes = &self.0[*id];
        Ok(if bytes == b"LARGE" { Blob::TooLarge } else { Blob::Bytes(bytes.clone()) })
    }
}

fn site(files: &[(&str, &str)]) -> (Memory, Files<usize>) {
    let contents = files.iter().map(|(_, content)| content.as_bytes().to_vec()).collect();
    let names = (0..).zip(files).map(|(number, (path, _))| (path.as_bytes().to_vec(), number));
    (Memory(contents), Files { files: names.collect(), notes: Notes::default() })
}

fn pack(
    files: &[(&str, &str)],
    limit: u64,
    reuse: Option<&Path>,
    out: &Path,
) -> Result<Built, PackError<Infallible>> {
    let (objects, files) = site(files);
    let reuse = reuse.map(|path| Reuse::open(path).unwrap());
    let file = std::fs::File::create(out).unwrap();
    build(&objects, files, limit, reuse.as_ref(), out.parent().unwrap(), &file)
}

/// Returns every path with the codings of its answer.
fn paths(pack: &Path) -> BTreeMap<String, usize> {
    let index = contents(&mut std::fs::File::open(pack).unwrap()).unwrap().index;
    let entry = |entry: &static_server::index::Entry| {
        let variants = match entry.kind {
            static_server::index::Kind::Resource(number) => {
                index.variants(&index.resources[number as usize]).len()
            }
            _ => 0,
        };
        (String::from_utf8_lossy(index.bytes(entry.path)).into_owned(), variants)
    };
    index.entries.iter().map(entry).collect()
}

#[test]
fn a_pack_can_be_served_and_is_named_by_its_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a.pack");
    let text = "a line of text, again and again\n".repeat(100);
    let files = [("/index.html", &*text), ("/copy.html", &*text), ("/a.png", &*text), ("/b", "")];
    let built = pack(&files, 1 << 20, None, &out).unwrap();
    assert_eq!(built.digest, Digest::of(&std::fs::read(&out).unwrap()));
    assert_eq!((built.bytes, built.files), (out.metadata().unwrap().len(), 4));
    assert_eq!(verify(&out).unwrap(), 3, "equal bodies are stored once");
    let paths = paths(&out);
    assert_eq!((paths["/"], paths["/copy.html"], paths["/a.png"], paths["/b"]), (2, 2, 1, 1));
}

#[test]
fn reused_forms_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let text = "a line of text, again and again\n".repeat(100);
    let old = [("/a.html", &*text), ("/b.css", "short")];
    let new = [("/c/d.html", &*text), ("/e.css", &text[100..])];
    pack(&old, 1 << 20, None, &at("old")).unwrap();
    let fresh = pack(&new, 1 << 20, None, &at("fresh")).unwrap();
    let reused = pack(&new, 1 << 20, Some(&at("old")), &at("reused")).unwrap();
    assert_eq!(fresh.digest, reused.digest);
    assert!(Reuse::open(&folder.path().join("none")).is_none());
}

#[test]
fn damaged_forms_are_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let text = "a line of text, again and again\n".repeat(100);
    let files = [("/a.html", &*text)];
    let whole = pack(&files, 1 << 20, None, &at("old")).unwrap();
    let mut bytes = std::fs::read(at("old")).unwrap();
    let last = bytes.len() - 1;
    for byte in &mut bytes[last - 200..] {
        *byte ^= 1;
    }
    std::fs::write(at("old"), bytes).unwrap();
    let again = pack(&files, 1 << 20, Some(&at("old")), &at("new")).unwrap();
    assert_eq!(whole.digest, again.digest);
}

#[test]
fn pointers_and_large_files_are_noted() {
    let folder = tempfile::tempdir().unwrap();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    let files = [("/a.png", pointer), ("/b", "LARGE"), ("/c", "c"), ("/_headers", "nonsense\n")];
    let built = pack(&files, 1 << 20, None, &folder.path().join("a")).unwrap();
    let lines = built.notes.lines();
    assert_eq!(
        lines[..2],
        [
            "/a.png is a pointer of Git LFS without an object; left out",
            "/b is larger than a file may be; left out",
        ]
    );
    assert!(lines[2].starts_with("/_headers has an invalid line 1: "), "{lines:?}");
    assert_eq!(built.files, 1);
}

#[test]
fn a_site_without_files_or_above_the_limit_is_not_published() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("a");
    assert!(matches!(pack(&[], 10, None, &out), Err(PackError::Empty)));
    assert!(matches!(pack(&[("/_headers", "")], 10, None, &out), Err(PackError::Empty)));
    let files = [("/a", "0123456"), ("/b", "0123456"), ("/c", "012")];
    assert!(pack(&files, 10, None, &out).is_ok(), "equal files count once");
    assert!(matches!(pack(&files, 9, None, &out), Err(PackError::TooLarge(9))));
}
