//! Refuses addresses of mirrors and registries, and paths of a developer's machine.
//!
//! A mirror's address works on one network only, and Kiln takes it from the host. A path of one machine
//! is useless on another, and reveals more than it should.

use std::path::Path;

use super::{at, files, none, root};

/// Hosts whose documents are cited. Builds never download from an address in the repository.
const CITED: [&str; 19] = [
    "bugs.debian.org",
    "cheatsheetseries.owasp.org",
    "containerd.io",
    "datatracker.ietf.org",
    "developers.cloudflare.com",
    "docs.kernel.org",
    // The first line of every pointer of Git LFS.
    "git-lfs.github.com",
    "github.com",
    "kubernetes.io",
    "lore.kernel.org",
    "man7.org",
    "manpages.debian.org",
    "opencontainers.org",
    "spdx.org",
    "uapi-group.org",
    "uefi.org",
    "www.apache.org",
    "www.rfc-editor.org",
    // SVG's XML namespace, which has the form of an address.
    "www.w3.org",
];

/// Reserved names (RFC 2606 and 6761), for tests and examples, and the names of a cluster's Services,
/// which only a cluster's DNS knows.
const RESERVED: [&str; 6] =
    [".example", ".example.org", ".example.com", ".test", ".invalid", ".svc.cluster.local"];

/// Hosts of requests in tests of a server, like single letters; a name without a dot is on no network.
const PLACEHOLDERS: [&str; 3] = ["Other", "host", "server"];

/// QEMU's user network, which is the same on every machine.
const EMULATED: &str = "10.0.2.";

/// Addresses for documentation, which no network has (RFC 5737).
const DOCUMENTATION: [&str; 3] = ["192.0.2.", "198.51.100.", "203.0.113."];

/// Folders in which developers and build services keep checkouts.
const CHECKOUTS: [&str; 7] =
    ["/root/", "/home/", "/Users/", "/builds/", "/work/", "/workspace/", "/__w/"];

/// Files that other projects or tools write, with addresses of their own.
const FOREIGN: [&str; 2] = ["Cargo.lock", "LICENSE"];

/// This file contains the strings that it forbids.
const SELF: &str = "xtask/src/tidy/leaks.rs";

/// Returns the hosts of all web addresses in a line.
fn hosts(line: &str) -> Vec<&str> {
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '{' | '}');
    let addresses = line.split("://").skip(1).zip(line.split("://"));
    let addresses = addresses.filter(|(_, before)| {
        ["http", "https", "ftp"].iter().any(|scheme| before.ends_with(scheme))
    });
    addresses.map(|(rest, _)| &rest[..rest.find(|c| !is_host(c)).unwrap_or(rest.len())]).collect()
}

/// True if the repository may name this host.
fn is_public(host: &str) -> bool {
    let reserved = |end: &str| host.ends_with(end) || host == &end[1..];
    // An address that is put together at run time, or an empty one.
    let open = host.is_empty() || host.contains('{');
    let local = host == "localhost" || host.starts_with("127.") || host.starts_with(EMULATED);
    let named = CITED.contains(&host) || PLACEHOLDERS.contains(&host) || host.len() == 1;
    let unused = DOCUMENTATION.into_iter().any(|prefix| host.starts_with(prefix));
    open || local || named || unused || RESERVED.into_iter().any(reserved)
}

/// Returns the first leak in a line.
fn leak(line: &str) -> Option<String> {
    if let Some(host) = hosts(line).into_iter().find(|host| !is_public(host)) {
        return Some(format!("the host {host}"));
    }
    let archive = ["deb", "security", "snapshot", "ftp"].map(|name| format!("{name}.debian.org"));
    let registry = ["proxy", "sum"].map(|name| format!("{name}.golang.org"));
    let named = archive.iter().chain(&registry).find(|name| line.contains(name.as_str()));
    let folder =
        CHECKOUTS.iter().find(|folder| is_path(line, folder)).map(|folder| (*folder).to_owned());
    named.cloned().or(folder)
}

/// True if a path in this line starts with the folder, rather than containing its name.
fn is_path(line: &str, folder: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '}' | '*');
    line.match_indices(folder).any(|(index, _)| !line[..index].ends_with(inner))
}

#[test]
fn no_file_names_a_mirror_a_registry_or_a_developers_machine() {
    let mut found = Vec::new();
    for path in files() {
        let skipped = FOREIGN.iter().chain([&SELF]).any(|name| path == Path::new(name));
        // Binary files have no lines.
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else { continue };
        for (index, line) in text.lines().enumerate().filter(|_| !skipped) {
            found.extend(leak(line).map(|what| at(&path, index, &what)));
        }
    }
    none("belongs to one machine or one network", found);
}

#[test]
fn leaks_and_citations_are_distinguished() {
    // Put together at run time, so that this file does not name them.
    let archive = ["see deb", "debian", "org"].join(".");
    let proxy = ["GOPROXY=https://proxy", "golang", "org,direct"].join(".");
    for bad in [
        archive.as_str(),
        proxy.as_str(),
        "mirror = \"http://192.168.7.1/debian\"",
        "https://apt.corp.internal/debian",
        "let path = \"/home/someone/kiln\";",
        "--remap-path-prefix=/root/kiln=/kiln",
    ] {
        assert!(leak(bad).is_some(), "{bad}");
    }
    for good in [
        "http://127.0.0.1:8080/",
        "//! https://uapi-group.org/specifications/",
        "http://mirror.example.org/debian",
        "https://m.test/x",
        "format!(\"http://{}/\", host)",
        "open(\"/root\")",
        "/usr/share/homework/x, target/work/x, ./home/x",
    ] {
        assert!(leak(good).is_none(), "{good}: {:?}", leak(good));
    }
}
