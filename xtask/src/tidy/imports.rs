//! Rules about imports: no cycle between files, and no edge that `docs/architecture.md` forbids.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::modules::{Imports, Target};
use super::{files, none, root, text};

/// Introduces a table of rooms in `docs/architecture.md`, followed by the folder in backticks.
const ROOMS: &str = "Rooms of ";

/// Every target of the workspace's crates.
pub(super) fn targets() -> Vec<(PathBuf, Target)> {
    let read = |path: &Path| std::fs::read_to_string(root().join(path)).ok();
    let is_root = |path: &Path| {
        let folder = |depth: usize| path.ancestors().nth(depth).and_then(Path::file_name);
        let name = path.file_name().unwrap();
        let in_folder = |depth: usize, names: &[&str]| {
            names.iter().any(|name| folder(depth) == Some(name.as_ref()))
        };
        let is_crate = |depth: usize| {
            path.ancestors()
                .nth(depth + 1)
                .is_some_and(|dir| root().join(dir).join("Cargo.toml").exists())
        };
        let is_main = name == "main.rs" || name == "lib.rs";
        is_main && in_folder(1, &["src"]) && is_crate(1)
            || in_folder(1, &["tests", "benches", "fuzz_targets"]) && is_crate(1)
            || in_folder(1, &["bin"]) && in_folder(2, &["src"]) && is_crate(2)
            || is_main && in_folder(2, &["bin", "tests"])
    };
    let roots = files().into_iter().filter(|path| path.extension() == Some("rs".as_ref()));
    roots
        .filter(|path| is_root(path))
        .map(|path| (path.clone(), Target::read(&path, &read)))
        .collect()
}

/// Groups of files that import each other in a loop: strongly connected components of two or more.
fn cycles(imports: &Imports) -> Vec<Vec<&PathBuf>> {
    let reached = |from: &PathBuf| {
        let mut found = BTreeSet::new();
        let mut open: Vec<&PathBuf> = imports.get(from).into_iter().flatten().collect();
        while let Some(file) = open.pop() {
            if found.insert(file) {
                open.extend(imports.get(file).into_iter().flatten());
            }
        }
        found
    };
    let reach: BTreeMap<_, _> = imports.keys().map(|file| (file, reached(file))).collect();
    let mut groups = BTreeSet::new();
    for (file, found) in &reach {
        let mates =
            found.iter().filter(|mate| reach.get(*mate).is_some_and(|back| back.contains(file)));
        let group: Vec<&PathBuf> = mates.copied().collect();
        if group.len() > 1 {
            groups.insert(group);
        }
    }
    groups.into_iter().collect()
}

fn edges_within(group: &[&PathBuf], imports: &Imports) -> String {
    let mut edges = Vec::new();
    for from in group {
        let to = imports[*from].iter().filter(|to| group.contains(to));
        edges.extend(to.map(|to| format!("\n      {} -> {}", from.display(), to.display())));
    }
    edges.concat()
}

/// The tables of rooms in a page: a folder, and its rooms from the top floor down.
fn rooms(page: &str) -> Vec<(PathBuf, Vec<String>)> {
    let mut tables = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(folder) = line.strip_prefix(ROOMS).and_then(|rest| rest.split('`').nth(1)) else {
            continue;
        };
        let rows = lines.by_ref().skip_while(|line| line.is_empty());
        let rows = rows.take_while(|line| line.starts_with('|'));
        let names =
            rows.filter_map(|row| Some(row.strip_prefix("| `")?.split_once('`')?.0.to_owned()));
        tables.push((PathBuf::from(folder), names.collect()));
    }
    tables
}

/// The room of a file: the first part of its path below the folder, without `.rs`.
fn room(file: &Path, folder: &Path) -> Option<String> {
    let name = file.strip_prefix(folder).ok()?.components().next()?;
    let name = name.as_os_str().to_str()?.trim_end_matches(".rs").to_owned();
    (!["lib", "main", "bin"].contains(&name.as_str())).then_some(name)
}

/// Faults of one folder's imports against the order of its rooms.
fn against_order(folder: &Path, order: &[String], imports: &Imports) -> BTreeSet<String> {
    let floor = |file: &Path| {
        let room = room(file, folder)?;
        Some((order.iter().position(|name| *name == room), room))
    };
    let mut faults = BTreeSet::new();
    for (from, targets) in imports {
        let Some((above, name)) = floor(from) else { continue };
        let Some(above) = above else {
            faults.insert(format!("{}/{name} is in no table", folder.display()));
            continue;
        };
        for to in targets {
            if floor(to).is_some_and(|(below, _)| below.is_some_and(|below| below < above)) {
                faults.insert(format!("{} -> {}", from.display(), to.display()));
            }
        }
    }
    faults
}

#[test]
fn no_two_files_import_each_other() {
    let mut found = Vec::new();
    for (_, target) in targets() {
        let imports = target.imports();
        let groups = cycles(&imports).into_iter();
        found.extend(
            groups.map(|group| format!("{} files:{}", group.len(), edges_within(&group, &imports))),
        );
    }
    none("import cycles between files", found);
}

#[test]
fn imports_run_in_the_direction_that_the_architecture_draws() {
    let tables = rooms(&text("docs/architecture.md"));
    assert!(tables.len() >= 4, "docs/architecture.md lists the rooms of {} crates", tables.len());
    let mut found = BTreeSet::new();
    for (folder, order) in tables {
        let mut files = 0;
        for (root, target) in targets() {
            if root.starts_with(&folder) {
                let imports = target.imports();
                files += imports.len();
                found.extend(against_order(&folder, &order, &imports));
            }
        }
        assert!(files > 0, "{} has no target", folder.display());
        let is_there = |name: &String| {
            let room = root().join(&folder).join(name);
            room.is_dir() || room.with_extension("rs").is_file()
        };
        let gone = order.iter().filter(|name| !is_there(name));
        found.extend(gone.map(|name| format!("{}/{name} does not exist", folder.display())));
    }
    none("a room imports only from rooms below it in docs/architecture.md", found);
}

#[test]
fn a_cycle_and_a_forbidden_import_are_noticed() {
    let files = BTreeMap::from([
        ("src/lib.rs", "mod a;\nmod b;\nmod c;\npub use c::Shared;\n"),
        (
            "src/a.rs",
            "use crate::b::{self, B};\npub struct A;\nfn f(_: crate::Shared) { b::g() }\n",
        ),
        ("src/b.rs", "pub struct B;\npub fn g() { super::a::A; }\n"),
        ("src/c/mod.rs", "mod d;\npub use d::Shared;\n"),
        ("src/c/d.rs", "pub struct Shared;\n"),
    ]);
    let read = |path: &Path| files.get(path.to_str().unwrap()).map(|text| (*text).to_owned());
    let imports = Target::read(Path::new("src/lib.rs"), &read).imports();
    let (a, b) = (PathBuf::from("src/a.rs"), PathBuf::from("src/b.rs"));
    assert_eq!(cycles(&imports), [vec![&a, &b]]);
    assert_eq!(imports[&a], BTreeSet::from([b.clone(), "src/c/d.rs".into()]));
    let order = ["b", "a"].map(str::to_owned);
    let faults = against_order(Path::new("src"), &order, &imports);
    assert_eq!(
        faults.into_iter().collect::<Vec<_>>(),
        ["src/a.rs -> src/b.rs", "src/c is in no table"]
    );
}

#[test]
fn tables_of_rooms_are_read() {
    let page = "Rooms of `x/src`, the top floor first:\n\n| room | purpose |\n| --- | --- |\n| `a` | A. |\n| `b` | B. |\n\nText.\n";
    assert_eq!(rooms(page), [(PathBuf::from("x/src"), vec!["a".to_owned(), "b".to_owned()])]);
}
