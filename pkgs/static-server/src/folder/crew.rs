//! The threads of a walk, and the work that they share.
//!
//! Each thread goes depth first and offers work while others may need it. The list of offers stays
//! short, because every offer holds an open folder. Threads start when there is work for them, so
//! that a small folder is read by the caller alone.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, scope};

use kiln_server::limits;
use rustix::fs::FileType;

/// The most threads of a walk; more would wait for the same folder locks of the kernel.
const THREADS_MAX: usize = 8;

/// The most offers for each thread.
const OFFERS: usize = 2;

/// The number of offers at which another thread starts.
const BACKLOG: usize = 2;

/// The stack of a thread, in bytes. The walk calls itself for every nested folder.
const STACK: usize = 1 << 20;

/// Returns the number of threads for a walk that clients wait for.
#[must_use]
pub fn threads() -> usize {
    limits::processors().min(THREADS_MAX)
}

/// The folders from the root to a folder.
#[derive(Debug, Clone, Default)]
pub struct Way(Option<Arc<Step>>);

#[derive(Debug)]
struct Step {
    /// Device and inode.
    identity: (u64, u64),
    depth: usize,
    before: Way,
}

impl Way {
    /// Returns the number of folders.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.0.as_ref().map_or(0, |step| step.depth)
    }

    /// True if a folder is on the way. A link to it is a loop.
    #[must_use]
    pub fn has(&self, identity: (u64, u64)) -> bool {
        let mut way = self;
        while let Some(step) = &way.0 {
            if step.identity == identity {
                return true;
            }
            way = &step.before;
        }
        false
    }

    /// Returns the way to a folder at the end of this way.
    #[must_use]
    pub fn to(&self, identity: (u64, u64)) -> Self {
        Self(Some(Arc::new(Step { identity, depth: self.depth() + 1, before: self.clone() })))
    }
}

/// An open folder.
#[derive(Debug)]
pub struct Open {
    /// The folder.
    pub fd: OwnedFd,
    /// The path, with a slash at its end.
    pub path: Box<[u8]>,
    /// The folders from the root to this folder, which is the last one.
    pub way: Way,
}

/// Names in a folder, with their kinds.
#[derive(Debug, Default)]
pub struct Names {
    /// Names, each with a zero byte.
    text: Vec<u8>,
    kinds: Vec<FileType>,
}

impl Names {
    /// Adds a name.
    pub fn push(&mut self, kind: FileType, name: &CStr) {
        self.text.extend_from_slice(name.to_bytes_with_nul());
        self.kinds.push(kind);
    }

    /// Adds all names of another list.
    pub fn append(&mut self, other: &Self) {
        self.text.extend_from_slice(&other.text);
        self.kinds.extend_from_slice(&other.kinds);
    }

    /// Returns the number of names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// True if there is no name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Returns the kinds and names.
    pub fn iter(&self) -> impl Iterator<Item = (FileType, &CStr)> {
        let mut rest = &self.text[..];
        self.kinds.iter().map_while(move |kind| {
            let name = CStr::from_bytes_until_nul(rest).ok()?;
            rest = &rest[name.to_bytes_with_nul().len()..];
            Some((*kind, name))
        })
    }
}

/// A piece of work.
#[derive(Debug)]
pub enum Task {
    /// A folder to list, with its path, which ends with a slash.
    Folder {
        /// The folder.
        open: OwnedFd,
        /// The path.
        path: Vec<u8>,
        /// The folders from the root to the folder's parent.
        way: Way,
    },
    /// Names in a folder.
    Names(Arc<Open>, Names),
}

#[derive(Debug, Default)]
struct Board {
    offers: Vec<Task>,
    /// The number of threads.
    running: usize,
    /// The number of threads that wait for an offer.
    idle: usize,
}

/// The threads of a walk.
#[derive(Debug)]
pub struct Crew {
    board: Mutex<Board>,
    news: Condvar,
    threads: usize,
}

/// Starts another thread; false if that is not possible. Only the first thread has it.
pub type Hire<'a> = Option<&'a dyn Fn() -> bool>;

impl Crew {
    /// Creates a crew of at most this many threads, one of which is the caller's.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let board = Board { running: 1, ..Board::default() };
        Self { board: Mutex::new(board), news: Condvar::new(), threads: threads.max(1) }
    }

    /// Runs `work` in the caller's thread, and in others as soon as there are offers for them.
    /// Returns the results of all threads.
    pub fn run<T: Send>(&self, work: impl Fn(Hire<'_>) -> T + Sync) -> Vec<T> {
        let results = Mutex::new(Vec::new());
        let lone = || {
            let result = work(None);
            results.lock().unwrap_or_else(PoisonError::into_inner).push(result);
        };
        let own = scope(|scope| {
            let builder = || Builder::new().name("walk".into()).stack_size(STACK);
            work(Some(&|| builder().spawn_scoped(scope, lone).is_ok()))
        });
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.push(own);
        results
    }

    /// Offers a task to the other threads. Returns it if they have enough to do.
    pub fn offer(&self, task: Task, hire: Hire<'_>) -> Option<Task> {
        let mut board = self.board();
        if self.threads == 1 || board.offers.len() >= OFFERS * self.threads {
            return Some(task);
        }
        board.offers.push(task);
        let wants = board.idle == 0 && board.offers.len() >= BACKLOG;
        if wants && board.running < self.threads && hire.is_some_and(|hire| hire()) {
            board.running += 1;
        }
        drop(board);
        self.news.notify_one();
        None
    }

    /// Returns the next offer; `None` when all work is done. Waits while other threads may still
    /// make offers.
    pub fn next(&self) -> Option<Task> {
        let mut board = self.board();
        board.idle += 1;
        loop {
            if let Some(task) = board.offers.pop() {
                board.idle -= 1;
                return Some(task);
            }
            if board.idle >= board.running {
                drop(board);
                self.news.notify_all();
                return None;
            }
            board = self.news.wait(board).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::{Crew, Hire, Names, Task, Way};
    use rustix::fs::FileType;
    use std::fs::File;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn task(depth: usize) -> Task {
        let open = File::open("/").unwrap().into();
        Task::Folder { open, path: vec![b'/'; depth], way: Way::default() }
    }

    /// Does a task of depth n, which makes two of depth n - 1.
    fn act(crew: &Crew, depth: usize, hire: Hire<'_>, done: &AtomicUsize) {
        done.fetch_add(1, Ordering::Relaxed);
        for _ in 0..2 {
            if depth > 0 && crew.offer(task(depth - 1), hire).is_some() {
                act(crew, depth - 1, hire, done);
            }
        }
    }

    #[test]
    fn all_work_is_done_once_by_any_number_of_threads() {
        for threads in [1, 2, 7] {
            let crew = Crew::new(threads);
            let done = AtomicUsize::new(0);
            let results = crew.run(|hire| {
                if hire.is_some() {
                    act(&crew, 9, hire, &done);
                }
                while let Some(Task::Folder { path, .. }) = crew.next() {
                    act(&crew, path.len(), hire, &done);
                }
            });
            assert_eq!(done.into_inner(), 1023);
            assert!(results.len() <= threads, "{}", results.len());
        }
    }

    #[test]
    fn a_way_knows_its_folders() {
        let way = Way::default().to((1, 2)).to((1, 3));
        assert!(way.has((1, 2)) && way.has((1, 3)) && !way.has((2, 3)));
        assert_eq!((way.depth(), Way::default().depth()), (2, 0));
    }

    #[test]
    fn names_come_out_as_they_went_in() {
        let (mut names, mut others) = (Names::default(), Names::default());
        names.push(FileType::RegularFile, c"a");
        others.push(FileType::Directory, c"");
        names.append(&others);
        let all: Vec<_> = names.iter().collect();
        assert_eq!(all, [(FileType::RegularFile, c"a"), (FileType::Directory, c"")]);
        assert_eq!((names.len(), names.is_empty()), (2, false));
    }
}
