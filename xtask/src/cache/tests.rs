use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use tempfile::TempDir;

use super::*;

fn temp() -> (TempDir, Cache) {
    let dir = TempDir::new().unwrap();
    let cache = Cache::open_at(&dir.path().join("cache"), &Progress::hidden()).unwrap();
    (dir, cache)
}

fn digest(name: &str) -> Digest {
    Digest::of_bytes(name.as_bytes())
}

/// A step with a file, a program, a link and a folder.
fn sample(dir: &Path) -> Result<()> {
    fs::create_dir(dir.join("folder"))?;
    fs::write(dir.join("folder/file"), "contents")?;
    fs::write(dir.join("program"), "run")?;
    fs::set_permissions(dir.join("program"), fs::Permissions::from_mode(0o755))?;
    symlink("folder/file", dir.join("link"))?;
    Ok(())
}

fn never(_: &Path) -> Result<()> {
    panic!("an intact entry is not made again")
}

fn is_empty(dir: &Path) -> bool {
    names(dir).unwrap().is_empty()
}

#[test]
fn a_finished_step_is_not_run_again() {
    let (dir, cache) = temp();
    let entry = cache.step(digest("a"), "a", sample).unwrap();
    assert_eq!(fs::read_to_string(entry.file("/folder/file").unwrap()).unwrap(), "contents");
    cache.step(digest("a"), "a", never).unwrap();
    let other = Cache::open_at(&dir.path().join("cache"), &Progress::hidden()).unwrap();
    other.step(digest("a"), "a", never).unwrap();
    other.intact(digest("a")).unwrap().unwrap();
    assert!(is_empty(&cache.root().join(TMP)));
}

#[test]
fn a_file_that_an_entry_lacks_is_named() {
    let (_dir, cache) = temp();
    let entry = cache.step(digest("a"), "package a", sample).unwrap();
    let error = entry.file("/bin/sh").unwrap_err().to_string();
    assert_eq!(error, "package a has no `/bin/sh`");
}

#[test]
fn visible_damage_is_repaired() {
    let damages: [fn(&Path); 7] = [
        |files| fs::remove_file(files.join("folder/file")).unwrap(),
        |files| fs::write(files.join("folder/file"), "longer contents").unwrap(),
        |files| fs::write(files.join("folder/file"), "CONTENTS").unwrap(),
        |files| fs::write(files.join("more"), "").unwrap(),
        |files| {
            fs::set_permissions(files.join("program"), fs::Permissions::from_mode(0o644)).unwrap();
        },
        |files| {
            fs::remove_file(files.join("link")).unwrap();
            symlink("/etc", files.join("link")).unwrap();
        },
        |files| fs::remove_file(files.parent().unwrap().join("manifest.json")).unwrap(),
    ];
    for damage in damages {
        let (_dir, cache) = temp();
        let entry = cache.step(digest("a"), "a", sample).unwrap();
        let then = fs::metadata(entry.path().join("folder/file")).unwrap().modified().unwrap();
        damage(entry.path());
        // Tests are faster than a file system's clock, so a rewritten file gets a time that is
        // certainly different.
        if let Ok(file) = File::options().append(true).open(entry.path().join("folder/file")) {
            file.set_modified(then + std::time::Duration::from_secs(1)).unwrap();
        }
        assert!(cache.find(digest("a")).unwrap().is_none());
        let entry = cache.step(digest("a"), "a", sample).unwrap();
        entry.verify().unwrap();
        cache.step(digest("a"), "a", never).unwrap();
    }
}

#[test]
fn a_touched_file_with_the_same_bytes_is_not_damaged() {
    let (_dir, cache) = temp();
    let entry = cache.step(digest("a"), "a", sample).unwrap();
    let file = File::options().append(true).open(entry.path().join("program")).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    cache.step(digest("a"), "a", never).unwrap();
}

#[test]
fn a_flipped_byte_behind_an_old_time_is_found_before_a_step_reads_it() {
    let (dir, cache) = temp();
    let entry = cache.step(digest("a"), "a", sample).unwrap();
    let path = entry.path().join("program");
    let then = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "rum").unwrap();
    File::options().append(true).open(&path).unwrap().set_modified(then).unwrap();

    assert!(entry.verify().is_err());
    let later = Cache::open_at(&dir.path().join("cache"), &Progress::hidden()).unwrap();
    later.step(digest("a"), "a", never).unwrap();
    assert!(later.intact(digest("a")).unwrap().is_none());
    let entry = later.step(digest("a"), "a", sample).unwrap();
    assert_eq!(fs::read_to_string(entry.path().join("program")).unwrap(), "run");
}

#[test]
fn a_step_that_fails_leaves_nothing() {
    let (_dir, cache) = temp();
    let failing = |dir: &Path| {
        sample(dir)?;
        bail!("no such luck")
    };
    let error = cache.step(digest("a"), "a", failing).unwrap_err();
    assert_eq!(error.to_string(), "no such luck");
    assert!(is_empty(&cache.root().join(TMP)) && is_empty(&cache.root().join(STEPS)));
    cache.step(digest("a"), "a", sample).unwrap();
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing() {
    let (_dir, cache) = temp();
    let full = |dir: &Path| {
        sample(dir)?;
        fs::write("/dev/full", "x").context("cannot write x")
    };
    let error = format!("{:#}", cache.step(digest("a"), "a", full).unwrap_err());
    assert!(error.starts_with("the disk is full; free some space on the disk of /"), "{error}");
    let told = |_: &Path| bail!("`go build` failed\nwrite x: No space left on device");
    let error = format!("{:#}", cache.step(digest("a"), "a", told).unwrap_err());
    assert!(error.starts_with("the disk is full"), "{error}");
    assert!(is_empty(&cache.root().join(TMP)) && is_empty(&cache.root().join(STEPS)));
}

#[test]
fn two_threads_on_one_step_make_it_once() {
    let (dir, cache) = temp();
    let runs = AtomicUsize::new(0);
    let (started, wait_for_start) = mpsc::channel();
    let (go_on, wait_for_go) = mpsc::channel::<()>();
    // A second opening of the same folder acts as another process.
    let other = Cache::open_at(&dir.path().join("cache"), &Progress::hidden()).unwrap();
    std::thread::scope(|scope| {
        let (cache, runs) = (&cache, &runs);
        scope.spawn(move || {
            let make = |dir: &Path| {
                runs.fetch_add(1, Ordering::SeqCst);
                started.send(()).unwrap();
                wait_for_go.recv().unwrap();
                sample(dir)
            };
            cache.step(digest("a"), "a", make).unwrap();
        });
        wait_for_start.recv().unwrap();
        let second = scope.spawn(|| other.step(digest("a"), "a", never).unwrap());
        assert!(cache.find(digest("a")).unwrap().is_none(), "an unfinished step is not an entry");
        go_on.send(()).unwrap();
        second.join().unwrap().verify().unwrap();
    });
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[test]
fn files_of_a_killed_build_are_removed_and_those_of_a_running_one_stay() {
    let (dir, cache) = temp();
    let tmp = cache.root().join(TMP);
    for name in ["killed", "running"] {
        fs::create_dir_all(tmp.join(name).join("files/read-only")).unwrap();
        fs::write(tmp.join(name).join("files/read-only/x"), "x").unwrap();
        let mode = fs::Permissions::from_mode(0o555);
        fs::set_permissions(tmp.join(name).join("files/read-only"), mode).unwrap();
    }
    let hold = Hold::try_exclusive(&cache.root().join(LOCKS).join("running")).unwrap().unwrap();
    let root = dir.path().join("cache");
    Cache::open_at(&root, &Progress::hidden()).unwrap();
    assert!(!tmp.join("killed").exists() && tmp.join("running").exists());
    drop(hold);
    Cache::open_at(&root, &Progress::hidden()).unwrap();
    assert!(is_empty(&tmp));
}

#[test]
fn only_a_correct_download_is_stored() {
    let (_dir, cache) = temp();
    let wrong = |path: &Path| fs::write(path, "else").context("");
    let error = cache.store(digest("text"), "x.deb", wrong).unwrap_err().to_string();
    assert!(
        error.starts_with("x.deb is refused: its sha256 is ") && error.contains("expected"),
        "{error}"
    );
    assert!(cache.download(digest("text")).unwrap().is_none());
    let path =
        cache.store(digest("text"), "x.deb", |path| fs::write(path, "text").context("")).unwrap();
    assert_eq!(cache.download(digest("text")).unwrap(), Some(path.clone()));
    assert_eq!(cache.store(digest("text"), "x.deb", never).unwrap(), path);
    assert!(is_empty(&cache.root().join(TMP)));
}

#[test]
fn a_flipped_byte_in_a_download_is_refused() {
    let (_dir, cache) = temp();
    let path =
        cache.store(digest("text"), "x.deb", |path| fs::write(path, "text").context("")).unwrap();
    fs::write(&path, "tExt").unwrap();
    assert!(cache.download(digest("text")).unwrap().is_none());
    assert!(!path.exists());
}

#[test]
fn clean_frees_everything_and_leaves_a_cache_that_works() {
    let (_dir, cache) = temp();
    cache.step(digest("a"), "a", sample).unwrap();
    cache.store(digest("text"), "x.deb", |path| fs::write(path, "text").context("")).unwrap();
    let modules = cache.dir("go-mod").unwrap().join("module@v1");
    fs::create_dir(&modules).unwrap();
    fs::write(modules.join("go.mod"), "x").unwrap();
    fs::set_permissions(&modules, fs::Permissions::from_mode(0o555)).unwrap();

    let freed = cache.clean().unwrap();
    assert_eq!((freed.downloads, freed.steps, freed.tools), (1, 1, 1));
    assert!(freed.bytes > 0);
    assert!([DOWNLOADS, STEPS, TOOLS, TMP].iter().all(|area| is_empty(&cache.root().join(area))));
    cache.step(digest("a"), "a", sample).unwrap();
}

#[test]
fn clean_fails_while_another_build_runs() {
    let (dir, cache) = temp();
    let other = Cache::open_at(&dir.path().join("cache"), &Progress::hidden()).unwrap();
    let entry = other.step(digest("a"), "a", sample).unwrap();
    let error = cache.clean().unwrap_err().to_string();
    assert!(error.starts_with("another build or a running node uses the cache in /"), "{error}");
    entry.verify().unwrap();
    drop(other);
    assert_eq!(cache.clean().unwrap().steps, 1);
}

#[test]
fn the_place_follows_the_environment() {
    let check = |variables: &[(&str, &str)], expected: &str| {
        let variable =
            |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into());
        let found = match locate(variable) {
            Ok(path) => path.display().to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    };
    check(&[("KILN_CACHE", "/a"), ("XDG_CACHE_HOME", "/b"), ("HOME", "/c")], "/a");
    check(&[("XDG_CACHE_HOME", "/b"), ("HOME", "/c")], "/b/kiln");
    check(&[("XDG_CACHE_HOME", "b"), ("HOME", "/c")], "/c/.cache/kiln");
    check(&[("HOME", "/c é")], "/c é/.cache/kiln");
    check(
        &[("KILN_CACHE", "a"), ("HOME", "/c")],
        "KILN_CACHE is `a`, but must be an absolute path",
    );
    check(&[("KILN_CACHE", "")], "KILN_CACHE is ``, but must be an absolute path");
    check(&[], "cannot find a folder for the cache: set KILN_CACHE, XDG_CACHE_HOME or HOME");
}

#[test]
fn a_folder_with_other_files_is_not_a_cache() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("downloads")).unwrap();
    let error = format!("{:#}", Cache::open_at(dir.path(), &Progress::hidden()).unwrap_err());
    assert!(
        error.contains("set KILN_CACHE to a folder") && error.contains("such as `downloads`"),
        "{error}"
    );
}

#[test]
fn a_place_that_cannot_be_a_folder_is_named() {
    let error =
        format!("{:#}", Cache::open_at(Path::new("/dev/null/x"), &Progress::hidden()).unwrap_err());
    assert!(
        error.starts_with("cannot use the cache folder /dev/null/x; set KILN_CACHE"),
        "{error}"
    );
}
