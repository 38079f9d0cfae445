//! The properties that hold for any bytes: one function for each fuzz target.
//!
//! They are in a file of their own, without libFuzzer, so that `pkgs/pages/tests/fuzz.rs` can
//! replay the checked-in inputs of `seeds/` with a plain `cargo test`.

use std::io::Write as _;

use pages::archive::limits::Limits;
use pages::archive::read;
use pages::git::known::Known;
use pages::guard::url::{GitUrl, Scheme};
use pages::publish::tree::{Blob, EntryKind, Objects as _};
use pages::webhook::event::{Event, parse};
use pages::webhook::forge::Forge;

/// A target's name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 4] =
    [("archive", archive), ("hosts", hosts), ("url", url), ("webhook", webhook)];

/// Small limits, so that a bomb costs little.
const SMALL: Limits = Limits {
    bytes: 1 << 20,
    ratio: 50,
    entries: 64,
    file_bytes: 1 << 16,
    depth: 4,
    path_bytes: 64,
};

/// The forges, and the names of their events.
const FORGES: [(Forge, &[&str]); 5] = [
    (Forge::GitHub, &["push", "pull_request"]),
    (Forge::Forgejo, &["push", "pull_request"]),
    (Forge::Gitea, &["push", "pull_request"]),
    (Forge::GitLab, &["Push Hook", "Merge Request Hook"]),
    (Forge::Bitbucket, &["repo:push", "repo:refs_changed", "pullrequest:created"]),
];

/// Reads an uploaded archive: whatever it claims, the tree keeps the limits and has no link, no parent
/// folder and no path inside a name.
pub fn archive(input: &[u8]) {
    let Ok(mut file) = tempfile::tempfile() else { return };
    if file.write_all(input).is_err() {
        return;
    }
    let Ok(tree) = read(&mut file, &std::env::temp_dir(), &SMALL, &|| false) else { return };
    let (mut folders, mut entries) = (vec![(tree.root(), 0)], 0);
    while let Some((folder, depth)) = folders.pop() {
        for entry in tree.folder(&folder).expect("a folder of the tree") {
            entries += 1;
            assert!(!entry.name.contains(&b'/') && entry.name != b".." && depth <= SMALL.depth);
            match entry.kind {
                EntryKind::Folder => folders.push((entry.id, depth + 1)),
                EntryKind::File => {
                    let content = tree.file(&entry.id).expect("a file of the tree");
                    assert!(matches!(content, Blob::Bytes(bytes) if bytes.len() <= 1 << 16));
                }
                EntryKind::Link | EntryKind::Submodule => panic!("an archive has no links"),
            }
        }
    }
    assert!(entries <= SMALL.entries);
}

/// Reads host keys: a key that is known can be proved, and another host has none of them.
pub fn hosts(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let url: GitUrl = "ssh://git@git.example/a".parse().expect("a valid URL");
    let known = Known::find(&[&text], &url);
    assert!(!known.is_empty() || known.algorithms().is_empty());
}

/// Reads the URL of a repository: its text leads to the same server, and no part of it can be an
/// option, a password or another host.
pub fn url(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Ok(url) = text.parse::<GitUrl>() else { return };
    assert!(text.is_ascii() && !url.host.is_empty() && url.port > 0);
    assert!(!url.host.starts_with('-') && !url.path.starts_with('-'));
    assert!(!url.host.contains(['@', '/', '?', '#', '%', ' ']) && !url.path.contains(['\'', '"']));
    assert!(!url.path.split('/').any(|segment| segment == ".."));
    let user = url.user.as_deref().unwrap_or_default();
    assert!(!user.contains(':') && !user.starts_with('-'));
    let again: GitUrl = url.to_string().parse().expect("the text of a URL is a URL");
    assert_eq!((&again.host, again.port, again.scheme), (&url.host, url.port, url.scheme));
    assert_eq!(again.identity(), url.identity());
    assert!(url.scheme == Scheme::Ssh || url.path.starts_with('/'));
}

/// Reads the body of a delivery, after a byte that chooses the forge: a push names its repository.
pub fn webhook(input: &[u8]) {
    let Some((choice, body)) = input.split_first() else { return };
    let (forge, events) = FORGES[usize::from(*choice) % FORGES.len()];
    for event in events {
        match parse(forge, event, body) {
            Ok(Event::Push { repositories, .. } | Event::Pull { repositories, .. }) => {
                assert!(!repositories.is_empty());
                assert!(repositories.iter().all(|one| one.contains('/')));
            }
            Ok(Event::Ping | Event::Other) | Err(_) => {}
        }
    }
}
