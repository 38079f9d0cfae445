//! Hostile trees: each entry that a stranger can put under a name that PID 1 uses.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use kiln_base::replace::Durability;
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode};

use super::{ASIDE_MAX, Folder, is_strange};

/// A folder that plays `/var`, and a file outside that a planted link leads to.
struct Planted {
    root: tempfile::TempDir,
    var: Folder,
}

const SECRET: &str = "a static pod's manifest\n";

impl Planted {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("var")).unwrap();
        fs::create_dir(root.path().join("outside")).unwrap();
        fs::write(root.path().join("outside/file"), SECRET).unwrap();
        let var = Folder::open(&root.path().join("var")).unwrap();
        Self { root, var }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join("var").join(path)
    }

    fn outside(&self) -> PathBuf {
        self.root.path().join("outside/file")
    }

    /// Plants an entry of this kind.
    fn plant(&self, kind: &str, path: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match kind {
            "link" => symlink(self.outside(), path).unwrap(),
            "dangling link" => symlink(self.root.path().join("outside/new"), path).unwrap(),
            "link to a folder" => symlink(self.root.path().join("outside"), path).unwrap(),
            "hard link" => fs::hard_link(self.outside(), path).unwrap(),
            "FIFO" => {
                rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
                    .unwrap();
            }
            "socket" => drop(UnixListener::bind(path).unwrap()),
            "folder" => {
                fs::create_dir(&path).unwrap();
                fs::write(path.join("data of a user"), "x").unwrap();
            }
            "file" => fs::write(path, "x").unwrap(),
            other => panic!("{other}"),
        }
    }

    /// Checks that nothing was written through a link.
    fn check_outside(&self) {
        assert_eq!(fs::read_to_string(self.outside()).unwrap(), SECRET);
        assert_eq!(fs::read_dir(self.root.path().join("outside")).unwrap().count(), 1);
    }
}

/// Everything that can be in the place of a file.
const NOT_FILES: [&str; 6] =
    ["link", "dangling link", "link to a folder", "FIFO", "socket", "folder"];

/// Everything that can be in the place of a folder.
const NOT_FOLDERS: [&str; 7] =
    ["link", "dangling link", "link to a folder", "hard link", "FIFO", "socket", "file"];

#[test]
fn only_a_regular_file_is_read() {
    for kind in NOT_FILES {
        let planted = Planted::new();
        planted.plant(kind, "lib/kiln/seed");
        for opened in [
            planted.var.read("lib/kiln/seed", 100).map(drop),
            planted.var.edit("lib/kiln/seed").map(drop),
        ] {
            let error = opened.unwrap_err();
            assert!(is_strange(&error), "{kind}: {error}");
        }
    }
}

#[test]
fn a_link_in_any_part_of_a_path_is_refused() {
    let planted = Planted::new();
    planted.plant("link to a folder", "a/b/link");
    for path in ["a/b/link/file", "a/b/link"] {
        assert!(is_strange(&planted.var.read(path, 100).unwrap_err()), "{path}");
        assert!(is_strange(&planted.var.folder(path).unwrap_err()), "{path}");
    }
    for path in ["a/b/link/new", "a/b/link/file"] {
        let done = [
            planted.var.replace(path, b"x", 0o644, Durability::None),
            planted.var.append(path).map(drop),
            planted.var.link(path, "/x"),
            planted.var.remove(path),
            planted.var.set_aside(path),
            planted.var.rename(path, "other"),
        ];
        assert!(done.into_iter().all(|done| is_strange(&done.unwrap_err())), "{path}");
    }
    assert!(Folder::open(&planted.path("a/b/link")).is_err());
    planted.check_outside();
}

#[test]
fn a_path_never_leaves_its_folder() {
    let planted = Planted::new();
    for path in ["../outside/file", "/etc/passwd", "a/../../outside/file", "", "."] {
        let error = planted.var.read(path, 100).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path}");
        assert!(planted.var.replace(path, b"x", 0o644, Durability::None).is_err(), "{path}");
        assert!(path.is_empty() || planted.var.make(path).is_err() || path == ".", "{path}");
        assert!(planted.var.remove(path).is_err(), "{path}");
    }
    planted.check_outside();
}

#[test]
fn a_huge_file_is_refused_before_it_is_read() {
    let planted = Planted::new();
    File::create(planted.path("seed")).unwrap().set_len(10 << 30).unwrap();
    let error = planted.var.read("seed", 4096).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    fs::write(planted.path("seed"), [b'x'; 4096]).unwrap();
    assert_eq!(planted.var.read("seed", 4096).unwrap().len(), 4096);
    assert!(planted.var.read("seed", 4095).is_err());
}

#[test]
fn a_file_replaces_everything_but_a_folder_which_is_set_aside() {
    for kind in NOT_FILES.into_iter().chain(["file", "hard link"]) {
        let planted = Planted::new();
        planted.plant(kind, "log/boots");
        planted.var.replace("log/boots", b"new", 0o600, Durability::FileAndFolder).unwrap();
        assert_eq!(planted.var.read("log/boots", 100).unwrap(), b"new", "{kind}");
        assert_eq!(
            fs::metadata(planted.path("log/boots")).unwrap().permissions().mode() & 0o7777,
            0o600
        );
        let kept = planted.path("log/boots.set-aside/data of a user").exists();
        assert_eq!(kept, kind == "folder", "{kind}");
        assert_eq!(fs::read_dir(planted.path("log")).unwrap().count(), 1 + usize::from(kept));
        planted.check_outside();
    }
}

#[test]
fn a_link_replaces_everything_but_a_folder_which_is_set_aside() {
    for kind in NOT_FILES.into_iter().chain(["file", "hard link"]) {
        let planted = Planted::new();
        planted.plant(kind, "kiln");
        planted.var.link("kiln", "/usr/share/kiln/seccomp").unwrap();
        let target = fs::read_link(planted.path("kiln")).unwrap();
        assert_eq!(target, Path::new("/usr/share/kiln/seccomp"), "{kind}");
        planted.check_outside();
    }
}

#[test]
fn a_log_is_never_written_through_a_link_or_a_second_name() {
    for kind in NOT_FILES.into_iter().chain(["hard link"]) {
        let planted = Planted::new();
        planted.plant(kind, "log/kubelet.log");
        planted.var.append("log/kubelet.log").unwrap().write_all(b"line\n").unwrap();
        planted.var.append("log/kubelet.log").unwrap().write_all(b"more\n").unwrap();
        assert_eq!(planted.var.read("log/kubelet.log", 100).unwrap(), b"line\nmore\n", "{kind}");
        assert!(planted.var.metadata("log/kubelet.log.set-aside").is_ok(), "{kind}");
        planted.check_outside();
    }
}

#[test]
fn a_rotated_log_replaces_what_is_in_its_place() {
    for kind in NOT_FILES {
        let planted = Planted::new();
        planted.plant("file", "x.log");
        planted.plant(kind, "x.log.1");
        planted.var.rename("x.log", "x.log.1").unwrap();
        assert_eq!(planted.var.read("x.log.1", 100).unwrap(), b"x", "{kind}");
        planted.check_outside();
    }
}

#[test]
fn folders_are_made_and_everything_else_is_set_aside() {
    for kind in NOT_FOLDERS {
        let planted = Planted::new();
        planted.plant(kind, "lib");
        planted.var.make("lib/kubelet/seccomp").unwrap();
        let again = planted.var.make("lib/kubelet/seccomp").unwrap();
        assert_eq!(again.path_of("x"), planted.path("lib/kubelet/seccomp/x"));
        assert!(planted.path("lib/kubelet/seccomp").is_dir(), "{kind}");
        assert!(planted.var.metadata("lib.set-aside").is_ok(), "{kind}");
        planted.check_outside();
    }
}

#[test]
fn the_number_of_entries_that_are_set_aside_is_bounded() {
    let planted = Planted::new();
    for _ in 0..ASIDE_MAX {
        planted.plant("folder", "boots");
        planted.var.set_aside("boots").unwrap();
    }
    planted.plant("folder", "boots");
    assert!(planted.var.append("boots").is_err());
    assert!(planted.path("boots/data of a user").exists());
}

#[test]
fn a_tree_is_removed_without_following_links() {
    let planted = Planted::new();
    for kind in NOT_FILES.into_iter().chain(["hard link"]) {
        planted.plant(kind, &format!("tree/sub/{kind}"));
    }
    planted.plant("file", "tree.set-aside");
    planted.var.remove("tree").unwrap();
    assert_eq!(planted.var.list(10).unwrap(), ["tree.set-aside"]);
    planted.var.remove("tree").unwrap();
    planted.var.remove("missing/tree").unwrap();
    planted.check_outside();
}

#[test]
fn a_tree_of_any_depth_and_width_is_removed() {
    let planted = Planted::new();
    let mut folder = planted.var.make("tree").unwrap();
    for _ in 0..2000 {
        folder = folder.make("d").unwrap();
    }
    drop(folder);
    let wide = planted.var.make("tree/wide").unwrap();
    for number in 0..600 {
        wide.replace(format!("{number}"), b"", 0o644, Durability::None).unwrap();
    }
    planted.var.remove("tree").unwrap();
    assert!(planted.var.list(10).unwrap().is_empty());
}

#[test]
fn removal_stops_when_it_is_told_to_and_continues_later() {
    let planted = Planted::new();
    for number in 0..20 {
        planted.plant("file", &format!("tree/{number}"));
    }
    let mut left = 10;
    let more = || {
        left -= 1;
        left > 0
    };
    assert!(!planted.var.remove_while("tree", more).unwrap());
    assert!(planted.path("tree").is_dir());
    assert!(planted.var.remove_while("tree", || true).unwrap());
}

#[test]
fn a_device_is_refused() {
    // `/dev` has devices that every user may read.
    let dev = Folder::open(Path::new("/dev")).unwrap();
    assert!(fs::metadata("/dev/zero").unwrap().file_type().is_char_device());
    assert!(is_strange(&dev.read("zero", 100).unwrap_err()));
    assert!(is_strange(&dev.edit("null").unwrap_err()));
}

#[test]
fn a_failed_replacement_leaves_the_old_file_and_nothing_else() {
    let planted = Planted::new();
    planted.plant("folder", "boots");
    for number in 0..ASIDE_MAX {
        let suffix = if number == 0 { String::new() } else { format!("-{}", number + 1) };
        planted.plant("file", &format!("boots.set-aside{suffix}"));
    }
    let before = fs::read_dir(planted.path("")).unwrap().count();
    assert!(planted.var.replace("boots", b"new", 0o644, Durability::File).is_err());
    assert!(planted.var.link("boots", "x").is_err());
    assert_eq!(fs::read_dir(planted.path("")).unwrap().count(), before);
}

#[test]
fn many_writers_leave_the_whole_work_of_one_of_them() {
    let planted = Planted::new();
    let var = &planted.var;
    std::thread::scope(|scope| {
        for byte in 1..=4_u8 {
            scope.spawn(move || {
                for _ in 0..100 {
                    var.replace("file", &[byte; 4096], 0o644, Durability::None).unwrap();
                    let read = var.read("file", 4096).unwrap();
                    assert!(read.len() == 4096 && read.iter().all(|other| *other == read[0]));
                }
            });
        }
    });
    assert_eq!(var.list(10).unwrap(), ["file"]);
}

#[test]
fn a_file_is_edited_and_listed_and_has_one_name() {
    let planted = Planted::new();
    assert_eq!(planted.var.edit("x").unwrap_err().kind(), ErrorKind::NotFound);
    planted.plant("file", "x");
    planted.var.edit("x").unwrap().set_len(0).unwrap();
    assert_eq!(fs::metadata(planted.path("x")).unwrap().len(), 0);
    assert_eq!(fs::metadata(planted.path("x")).unwrap().nlink(), 1);
    assert_eq!(planted.var.list(0).unwrap(), [""; 0]);
    let mut text = String::new();
    planted.var.file("x").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(planted.var.metadata("x").unwrap().st_size, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_was_planted_the_node_writes_its_own_files_and_nothing_outside(
        planting in prop::collection::vec(
            (prop::sample::select(&NOT_FOLDERS[..]), prop::sample::select(&[
                "log", "log/boots", "log/x.log", "log/x.log.1", "lib", "lib/kubelet", "lib/kiln",
            ][..])), 0..6),
    ) {
        let planted = Planted::new();
        for (kind, path) in planting {
            let parent = planted.path(path).parent().unwrap().to_owned();
            if fs::symlink_metadata(&parent).is_ok_and(|parent| parent.is_dir())
                && fs::symlink_metadata(planted.path(path)).is_err()
            {
                planted.plant(kind, path);
            }
        }
        let write = || -> io::Result<()> {
            let log = planted.var.make("log")?;
            log.replace("boots", b"x", 0o644, Durability::None)?;
            log.append("x.log")?.write_all(b"x")?;
            log.rename("x.log", "x.log.1")?;
            planted.var.make("lib/kubelet/seccomp")?.link("kiln", "/x")?;
            planted.var.make("lib/kiln")?.replace("seed", b"x", 0o644, Durability::None)
        };
        write().unwrap();
        planted.check_outside();
    }
}
