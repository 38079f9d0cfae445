//! A rule about `/var`, below which everything was written by a stranger: PID 1 opens it in a few
//! places, and everything below it through `kernel::beneath`, by relative paths.

use std::collections::BTreeSet;
use std::path::Path;

use super::code::lines_before_tests;
use super::{at, files_with, none, text};

/// Literals that begin with `/var` and are not opened below it, each with its file and its reason.
const ALLOWED: [(&str, &str, &str); 14] = [
    ("init/contract/src/path.rs", "/var/lib/kubelet/config.yaml", "a name for people and tools"),
    ("init/contract/src/path.rs", "/var/lib/kubelet/kubeconfig", "an argument of kubelet"),
    ("init/contract/src/path.rs", "/var/lib/kubelet/pki", "a name for people and tools"),
    ("init/contract/src/path.rs", "/var/lib/kubelet/seccomp/kiln", "a name for people and tools"),
    ("init/contract/src/root.rs", "/var", "a folder of the read-only root"),
    ("init/src/boot/fill.rs", "/var", "a mount point"),
    ("init/src/boot/partition.rs", "/var", "a mount point"),
    ("init/src/kubelet/reserved.rs", "/var", "the size of a tmpfs"),
    ("init/src/kubelet/reserved.rs", "/var/log/pods", "the size of a tmpfs"),
    ("init/src/log/pod_logs.rs", "/var/log/pods", "opened without links by `Folder::open`"),
    ("init/src/log/stream.rs", "/var/log", "opened without links by `Folder::open`"),
    ("init/src/shutdown/unmount.rs", "/var", "a mount point"),
    ("init/src/storage/grow.rs", "/var", "a mount point, which grows"),
    ("init/src/storage/var.rs", "/var", "opened without links by `Folder::open`"),
];

/// Names of the contract's constants whose value is below `/var`. Code that opened one of them by
/// `std::fs` would follow links.
const CONSTANTS: [&str; 4] = ["KUBECONFIG", "KUBELET_CONFIG", "KUBELET_PKI", "KUBELET_SECCOMP"];

/// Calls that open, change or look at a path and follow links.
const CALLS: [&str; 6] = ["fs::", "File::", "OpenOptions", "symlink(", "Path::new(", "replace::"];

/// Returns the paths below `/var` in the string literals of a line; a message is not a path.
fn literals(line: &str) -> Vec<&str> {
    let code = line.split(" // ").next().unwrap_or_default();
    if code.trim_start().starts_with("//") {
        return Vec::new();
    }
    let strings = code.split('"').skip(1).step_by(2);
    let is_path = |text: &&str| text.starts_with("/var") && !text.contains(' ');
    strings.filter(is_path).collect()
}

/// True if a line opens one of the contract's paths; a link to one of them is not opened here.
fn opens_constant(line: &str) -> bool {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let named = line.split(|letter| !is_word(letter)).any(|word| CONSTANTS.contains(&word));
    named && CALLS.iter().any(|call| line.contains(call)) && !line.contains("symlink(path::")
}

/// Lines of a source file outside its tests, with their numbers, counted from 0.
fn lines<'a>(path: &Path, text: &'a str) -> Vec<(usize, &'a str)> {
    text.lines().enumerate().take(lines_before_tests(path, text)).collect()
}

#[test]
fn everything_below_var_is_opened_as_written_by_a_stranger() {
    let (mut found, mut used) = (Vec::new(), BTreeSet::new());
    for path in files_with(".rs") {
        if !path.starts_with("init/src") && !path.starts_with("init/contract/src") {
            continue;
        }
        let text = text(&path);
        for (index, line) in lines(&path, &text) {
            for literal in literals(line) {
                let allowed = |(file, known, _): &&(&str, &str, &str)| {
                    path == Path::new(file) && literal == *known
                };
                match ALLOWED.iter().position(|entry| allowed(&entry)) {
                    Some(entry) => drop(used.insert(entry)),
                    None => found.push(at(&path, index, literal)),
                }
            }
            if opens_constant(line) {
                found.push(at(&path, index, line.trim()));
            }
        }
    }
    none("open it by a relative path through kernel::beneath::Folder", found);
    let unused = ALLOWED.iter().enumerate().filter(|(index, _)| !used.contains(index));
    none("unneeded exceptions", unused.map(|(_, entry)| format!("{entry:?}")));
}

#[test]
fn a_path_below_var_is_found_in_code_only() {
    for (line, expected) in [
        ("    fs::read(\"/var/lib/kiln/seed\")?", vec!["/var/lib/kiln/seed"]),
        ("const FILE: &str = \"/var/log/boots\"; // \"/var/x\"", vec!["/var/log/boots"]),
        ("    detach(c\"/var\");", vec!["/var"]),
        ("/// A copy of \"/var/lib\".", vec![]),
        ("    kmsg::warn(\"/var is in memory\");", vec![]),
        ("    let various = \"lib/various\";", vec![]),
    ] {
        assert_eq!(literals(line), expected, "{line}");
    }
    assert!(opens_constant("    fs::read(path::KUBECONFIG)?"));
    assert!(!opens_constant("    fs::symlink_metadata(path::KUBECONFIG_LINK)"));
    assert!(!opens_constant("    args.push(format!(\"--kubeconfig={}\", path::KUBECONFIG));"));
}
