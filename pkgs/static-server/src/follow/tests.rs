//! The decision to read content again, and its effects.

use super::{Bell, Decision, FIRST_PASS, Follower, Seen, first};
use crate::docroot::{DocRoot, Look};
use crate::folder::scan::Limits;
use crate::options::Options;
use crate::shared::{Shared, State};
use kiln_server::threads::Wakers;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

const SMALL: Limits = Limits { memory: 1 << 20, open_files: 9 };

/// The folder for the function that reads the options again, because that function has no
/// parameter.
static BUSY: OnceLock<PathBuf> = OnceLock::new();

fn options(folder: PathBuf) -> Options {
    Options { folder, poll: None, ..Options::default() }
}

fn follower(options: &Options, reread: fn() -> anyhow::Result<Options>) -> Follower {
    let loaded = first(options, &SMALL).unwrap();
    let seen = Seen::of(&loaded);
    let limits = options.limits.clone();
    let state = State { content: loaded.content, limits, is_whole: true };
    let shared = Arc::new(Shared::new(state, Wakers::new(0).unwrap(), None));
    Follower::new(shared, Arc::default(), options.clone(), &SMALL, reread, &seen)
}

fn looks() -> [Look; 3] {
    let folder = tempfile::tempdir().unwrap();
    let docroot = DocRoot::Folder(folder.path().into());
    ["a", "b", "c"].map(|name| {
        std::fs::write(folder.path().join(name), "").unwrap();
        docroot.look(1).unwrap()
    })
}

#[test]
fn content_is_read_again_once_it_has_changed_and_settled() {
    let [one, two, three] = looks();
    let mut decision = Decision { served: one, is_doubtful: false, last: None, bad: None };
    assert!(!decision.is_time(one));
    assert!(!decision.is_time(two));
    assert!(!decision.is_time(three));
    assert!(decision.is_time(three));
    assert!(!decision.is_time(one));
    assert!(!decision.is_time(two), "the document root changed back");
}

#[test]
fn content_read_too_soon_after_a_change_is_read_again() {
    let [one, ..] = looks();
    let mut decision = Decision { served: one, is_doubtful: true, last: None, bad: None };
    assert!(!decision.is_time(one));
    assert!(decision.is_time(one));
}

#[test]
fn times_ahead_of_the_clock_cause_one_more_reading_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a"), "a").unwrap();
    let options = options(folder.path().into());
    let mut follower = follower(&options, || unreachable!());
    let hour = 3_600_000_000_000;
    let read = |follower: &mut Follower, after: Duration| {
        let mut loaded = first(&options, &SMALL).unwrap();
        loaded.newest += hour;
        follower.read_at = std::time::Instant::now().checked_sub(after).unwrap();
        follower.publish(loaded);
        follower.decision.is_doubtful
    };
    assert!(read(&mut follower, Duration::ZERO), "another change may have the same time");
    assert!(!read(&mut follower, super::DOUBT), "it was the same for long enough");
    std::fs::write(folder.path().join("b"), "b").unwrap();
    assert!(read(&mut follower, super::DOUBT), "the content has changed");
}

#[test]
fn a_rung_bell_wakes_once() {
    let bell = Bell::default();
    bell.ring();
    assert!(bell.wait(None));
    assert!(!bell.wait(Some(Duration::ZERO)));
}

#[test]
fn a_hangup_while_content_changes_is_done_or_counted_and_never_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("busy");
    std::fs::write(&path, "").unwrap();
    BUSY.set(folder.path().into()).unwrap();
    let reread = || Ok(options(BUSY.get().cloned().unwrap_or_default()));
    let mut follower = follower(&reread().unwrap(), reread);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for len in (0..99).cycle().take_while(|_| !done.load(Ordering::Relaxed)) {
                std::fs::write(&path, vec![b'x'; len]).unwrap();
            }
        });
        for _ in 0..300 {
            follower.reload();
        }
        done.store(true, Ordering::Relaxed);
    });
    let failed = follower.shared.failed_reloads.load(Ordering::Relaxed);
    // The first content has the number 1.
    assert_eq!(follower.shared.generation() - 1 + failed, 300);
}

#[test]
fn unreadable_content_is_skipped_until_it_changes_and_retried_less_and_less_often() {
    let [one, two, three] = looks();
    let mut decision = Decision { served: one, is_doubtful: false, last: None, bad: None };
    decision.is_time(two);
    assert!(decision.is_time(two));
    for looks in [FIRST_PASS, FIRST_PASS * 2] {
        decision.could_not_read(two);
        for _ in 1..looks {
            assert!(!decision.is_time(two));
        }
        assert!(decision.is_time(two));
    }
    decision.could_not_read(two);
    assert!(!decision.is_time(three));
    assert!(decision.is_time(three), "it has changed");
    assert!(!decision.is_time(one), "the document root is in the served state");
    assert!(!decision.is_time(two));
    assert!(decision.is_time(two), "the unreadable state was forgotten");
}

#[test]
fn a_pack_that_stays_damaged_is_read_and_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.html"), "page").unwrap();
    let none = || anyhow::bail!("not called");
    let mut follower = follower(&options(folder.path().into()), none);
    // Acts as if the options had always named the pack.
    let pack = folder.path().join("site.pack");
    std::fs::write(&pack, "KILNPACK and no more").unwrap();
    follower.options.pack = Some(pack);
    for _ in 0..FIRST_PASS {
        follower.look();
    }
    assert_eq!(follower.shared.failed_reloads.load(Ordering::Relaxed), 1);
    assert!(follower.shared.is_ready());
}

#[test]
fn a_host_that_stays_damaged_is_named_once_and_the_others_are_followed() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("one/index.html");
    std::fs::create_dir(folder.path().join("one")).unwrap();
    std::fs::write(&page, "page").unwrap();
    let hosts = Some(folder.path().into());
    let options = Options { hosts, ..options(folder.path().into()) };
    let mut follower = follower(&options, || anyhow::bail!("not called"));
    follower.decision.is_doubtful = false;
    let two = folder.path().join("two.pack");
    std::fs::write(&two, "no pack").unwrap();
    std::fs::write(&page, "another page").unwrap();
    for _ in 0..FIRST_PASS {
        follower.look();
    }
    let (generation, state) = follower.shared.state();
    assert_eq!((generation, state.content.sites().count()), (2, 1));
    let site = state.content.site(b"one", b"/x").unwrap().index;
    assert_eq!(site.memory(site.variants[0].body).unwrap(), b"another page");
    assert!(!follower.shared.is_ready());
    std::fs::remove_file(two).unwrap();
    follower.look();
    follower.look();
    assert!(follower.shared.is_ready());
}
