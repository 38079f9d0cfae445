//! Pushes at a steady rate, each with the delivery of a webhook, and the time until its page is served.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hmac::{Hmac, KeyInit as _, Mac as _};
use kiln_host::process;
use sha2::Sha256;

use super::repository::{BRANCH, Repository};
use super::roles::{Roles, SECRET};
use super::visitor::{NAMESPACES, Visitor, page};

/// The longest time from a push to its page.
const SERVED_MAX: Duration = Duration::from_mins(1);

/// The pause of the watching visitor after it has looked at all sites that it waits for. It bounds the
/// error of a time.
const LOOK: Duration = Duration::from_millis(2);

/// The pause of a reading visitor after each answer.
const READ: Duration = Duration::from_millis(2);

/// Visitors that read while sites change.
const READERS: usize = 2;

/// The sites of a run with their repositories and their newest revisions.
pub struct Sites {
    repositories: Vec<Repository>,
    /// The newest pushed revision of each site.
    pushed: Vec<AtomicU64>,
    /// The beginning of the repositories' URLs.
    git: String,
}

/// The result of some pushes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pushed {
    /// Seconds from a push to its page, sorted.
    pub seconds: Vec<f64>,
    /// Answers that visitors got meanwhile, all of them whole.
    pub answers: u64,
}

impl Sites {
    /// Creates the repositories, each with a first revision.
    pub fn create(folder: &std::path::Path, git: &str, count: usize) -> Result<Self> {
        let new = |site: usize| -> Result<_> {
            let repository = Repository::create(folder.join(format!("{site}.git")))?;
            commit(&repository, site, 1)?;
            Ok(repository)
        };
        let repositories = (0..count).map(new).collect::<Result<Vec<_>>>()?;
        let pushed = (0..count).map(|_| AtomicU64::new(1)).collect();
        Ok(Self { repositories, pushed, git: git.to_owned() })
    }

    /// The number of sites.
    pub const fn len(&self) -> usize {
        self.repositories.len()
    }

    /// The URL of a site's repository.
    pub fn url(&self, site: usize) -> String {
        format!("{}/{site}.git", self.git)
    }

    /// Waits until all sites are served, and returns the seconds.
    pub fn wait_until_served(&self, roles: &mut Roles, patience: Duration) -> Result<f64> {
        let (start, mut visitor) = (Instant::now(), Visitor::connect(roles.visitors)?);
        for site in 0..self.len() {
            while visitor.revision(site)?.is_none() {
                process::check_interrupt()?;
                roles.check()?;
                let waited = start.elapsed();
                ensure!(waited < patience, "site {site} is not served after {waited:.0?}");
                thread::sleep(Duration::from_millis(100));
            }
        }
        Ok(start.elapsed().as_secs_f64())
    }

    /// Pushes to random sites, `rate` times a second, and waits for the last page.
    pub fn push(&self, roles: &mut Roles, rate: u32, count: usize) -> Result<Pushed> {
        let (stop, answers) = (AtomicBool::new(false), AtomicU64::new(0));
        let (visitors, hooks) = (roles.visitors, roles.hooks);
        thread::scope(|scope| {
            let read = |seed| self.read(visitors, seed, &stop, &answers);
            let readers: Vec<_> =
                (0..READERS).map(|seed| scope.spawn(move || read(seed))).collect();
            let seconds = self.push_and_watch(roles, hooks, rate, count);
            stop.store(true, Ordering::Relaxed);
            for reader in readers {
                reader.join().map_err(|_| anyhow::anyhow!("a visitor panicked"))??;
            }
            Ok(Pushed { seconds: seconds?, answers: answers.load(Ordering::Relaxed) })
        })
    }

    fn push_and_watch(
        &self,
        roles: &mut Roles,
        hooks: u16,
        rate: u32,
        count: usize,
    ) -> Result<Vec<f64>> {
        let (sender, receiver) = std::sync::mpsc::channel();
        let visitors = roles.visitors;
        thread::scope(|scope| {
            let watcher = scope.spawn(move || watch(visitors, &receiver));
            let (start, mut random) = (Instant::now(), Random(1));
            for number in 0..count {
                process::check_interrupt()?;
                roles.check()?;
                #[expect(clippy::cast_precision_loss, reason = "a count of pushes is small")]
                let due = Duration::from_secs_f64(number as f64 / f64::from(rate));
                thread::sleep(due.saturating_sub(start.elapsed()));
                let site = random.below(self.len());
                let revision = self.pushed[site].fetch_add(1, Ordering::Relaxed) + 1;
                commit(&self.repositories[site], site, revision)?;
                let _ = sender.send(Waiting { site, revision, since: Instant::now() });
                deliver(hooks, site, &self.url(site), number)?;
            }
            drop(sender);
            watcher.join().map_err(|_| anyhow::anyhow!("the watching visitor panicked"))?
        })
    }

    /// Reads random sites until `stop`; each answer must be a whole page that was pushed, and never an
    /// older one than before.
    fn read(&self, port: u16, seed: usize, stop: &AtomicBool, answers: &AtomicU64) -> Result<()> {
        let (mut visitor, mut random) = (Visitor::connect(port)?, Random(seed as u64 + 2));
        let mut shown_before = vec![0; self.len()];
        while !stop.load(Ordering::Relaxed) {
            let site = random.below(self.len());
            let shown = visitor.revision(site)?;
            let shown = shown.with_context(|| format!("site {site} is away"))?;
            let newest = self.pushed[site].load(Ordering::Relaxed);
            if !(shown_before[site]..=newest).contains(&shown) {
                bail!(
                    "site {site} shows revision {shown} after {}, of {newest}",
                    shown_before[site]
                );
            }
            shown_before[site] = shown;
            answers.fetch_add(1, Ordering::Relaxed);
            thread::sleep(READ);
        }
        Ok(())
    }
}

/// A push whose page is not served yet.
struct Waiting {
    site: usize,
    revision: u64,
    since: Instant,
}

/// Looks at the sites of all pushes that are under way; returns their seconds, sorted.
fn watch(port: u16, pushes: &std::sync::mpsc::Receiver<Waiting>) -> Result<Vec<f64>> {
    let (mut visitor, mut waiting, mut seconds) = (Visitor::connect(port)?, Vec::new(), Vec::new());
    let mut open = true;
    while open || !waiting.is_empty() {
        loop {
            match pushes.try_recv() {
                Ok(push) => waiting.push(push),
                Err(std::sync::mpsc::TryRecvError::Empty) => break,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => {
                    open = false;
                    break;
                }
            }
        }
        let mut still = Vec::new();
        for push in waiting {
            let Waiting { site, revision, since } = push;
            // A newer revision shows that this one's content was published, too.
            if visitor.revision(site)?.is_some_and(|shown| shown >= revision) {
                seconds.push(since.elapsed().as_secs_f64());
            } else if since.elapsed() > SERVED_MAX {
                bail!("revision {revision} of site {site} is not served after {SERVED_MAX:?}");
            } else {
                still.push(push);
            }
        }
        waiting = still;
        thread::sleep(LOOK);
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds)
}

fn commit(repository: &Repository, site: usize, revision: u64) -> Result<()> {
    let index = page(site, revision);
    // Unchanged files, as most of a site is.
    let style = "body { margin: 2rem auto; max-width: 40rem }\n".repeat(50);
    let about = page(site, 0);
    repository.push(&[
        ("about.html", about.as_bytes()),
        ("index.html", index.as_bytes()),
        ("style.css", style.as_bytes()),
    ])
}

/// Delivers a push event with the headers and the signature of GitHub.
fn deliver(port: u16, site: usize, url: &str, number: usize) -> Result<()> {
    let body = serde_json::json!({ "ref": BRANCH, "repository": { "clone_url": url } }).to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).context("a bad secret")?;
    mac.update(body.as_bytes());
    let proof = mac.finalize().into_bytes().iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    });
    let (team, length) = (site % NAMESPACES, body.len());
    let head = format!(
        "POST /webhook/team-{team}/site-{site} HTTP/1.1\r\nHost: syncer\r\nX-GitHub-Event: push\r\n\
         X-GitHub-Delivery: delivery-{number}\r\nX-Hub-Signature-256: sha256={proof}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    let mut stream =
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("cannot connect to the syncer")?;
    stream.write_all((head + &body).as_bytes()).context("cannot deliver a webhook")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("cannot read the syncer's answer")?;
    ensure!(answer.starts_with("HTTP/1.1 202"), "a webhook was refused: {answer}");
    Ok(())
}

/// A sequence that is the same in each run: xorshift64* (Marsaglia 2003, Vigna 2016).
struct Random(u64);

impl Random {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(value).unwrap_or_default() % count.max(1)
    }
}
