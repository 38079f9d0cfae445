//! Syncer and server are killed at random moments while pushes go on and visitors read.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use kube::api::DeleteParams;
use serde_json::json;

use crate::rig::{Rig, site, until};
use crate::whole::{TEAM, TOKEN, Whole, kill};

/// The sites: name, folder in the repository.
const SITES: [(&str, &str); 2] = [("first", ""), ("second", "docs/")];

/// The number of kills; some rounds kill both programs.
const KILLS: usize = 60;

/// The longest time that all kills may take.
const TIME: Duration = Duration::from_mins(2);

/// The longest pause before a kill, in milliseconds.
const PAUSE_MAX: u64 = 250;

/// The folder of the syncer, which an earlier scenario has chosen.
const DATA: &str = "new-disk";

/// The seed of the random moments.
const SEED: u64 = 0x6b69_6c6e;

/// Random numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

/// Returns the page of a site in a revision: long enough to be sent in several parts.
fn page(name: &str, revision: usize) -> String {
    format!("the site {name} in revision {revision:06}\n").repeat(3000)
}

/// The things that visitors have seen.
#[derive(Default)]
struct Seen {
    whole: AtomicUsize,
    cut: AtomicUsize,
    refused: AtomicUsize,
}

/// Sends a request; nothing if the server is away or the connection breaks before the head has arrived.
fn ask(address: SocketAddr, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut all = Vec::new();
    // A kill breaks the connection, and what has arrived counts.
    let _ = stream.read_to_end(&mut all);
    let text = String::from_utf8(all).unwrap();
    text.contains("\r\n\r\n").then_some(text)
}

/// Compares an answer: one revision of the right site, whole or visibly cut.
fn judge(name: &str, answer: &str, newest: usize, seen: &Seen) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{name}: {head}");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    let length: usize = length.parse().unwrap();
    let number = body.split("revision ").nth(1).and_then(|rest| rest.get(..6));
    let expected = number.map(|number| page(name, number.parse().unwrap()));
    if body.len() == length {
        assert_eq!(Some(body), expected.as_deref(), "a mixed page");
        assert!(number.unwrap().parse::<usize>().unwrap() <= newest, "never pushed");
        seen.whole.fetch_add(1, Ordering::Relaxed);
    } else {
        assert!(body.len() < length, "{name}: longer than announced");
        let is_start = expected.is_none_or(|expected| expected.starts_with(body));
        assert!(is_start, "{name}: a mixed page");
        seen.cut.fetch_add(1, Ordering::Relaxed);
    }
}

/// Visitors of all sites, until they are told to stop.
struct Visitors {
    stop: Vec<Sender<()>>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Visitors {
    fn start(address: SocketAddr, newest: &Arc<AtomicUsize>, seen: &Arc<Seen>) -> Self {
        let mut visitors = Self { stop: Vec::new(), threads: Vec::new() };
        for (name, _) in SITES {
            let (stop, stopped) = channel::<()>();
            let (newest, seen) = (Arc::clone(newest), Arc::clone(seen));
            let host = format!("{name}.{TEAM}.pages.test");
            let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let visit = move || {
                let pause = Duration::from_millis(2);
                while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                    match ask(address, &request) {
                        Some(answer) => {
                            judge(name, &answer, newest.load(Ordering::SeqCst), &seen);
                        }
                        None => drop(seen.refused.fetch_add(1, Ordering::Relaxed)),
                    }
                }
            };
            visitors.threads.push(std::thread::spawn(visit));
            visitors.stop.push(stop);
        }
        visitors
    }

    fn end(self) {
        drop(self.stop);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

/// Pushes a revision of all sites, and asks the syncer to fetch it; the syncer may be away.
fn push(whole: &Whole, newest: &AtomicUsize) -> usize {
    let revision = newest.fetch_add(1, Ordering::SeqCst) + 1;
    let files = SITES.map(|(name, folder)| (format!("{folder}index.html"), page(name, revision)));
    let files: Vec<(&str, &str)> =
        files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    whole.push(&files);
    for (name, _) in SITES {
        let api = whole.api;
        let request = format!(
            "POST /sync/{TEAM}/{name} HTTP/1.1\r\nHost: {api}\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n"
        );
        ask(api, &request);
    }
    revision
}

/// True if both sites show a revision.
fn show(whole: &Whole, revision: usize) -> bool {
    SITES.iter().all(|(name, _)| {
        whole.page_of(&format!("{name}.{TEAM}.pages.test")).1 == page(name, revision)
    })
}

pub async fn programs_are_killed_at_any_moment(rig: &Rig, whole: &mut Whole) {
    let (newest, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(Seen::default()));
    push(whole, &newest);
    for (name, folder) in SITES {
        let spec = json!({ "repo": whole.git.url("localhost"), "path": format!("/{folder}") });
        rig.apply(site(TEAM, name, &spec)).await;
    }
    until("both sites are served", async || show(whole, 1)).await;
    // A server that is killed before it has saved its first table starts without the sites.
    until("the server has saved its table", async || {
        let table =
            std::fs::read_to_string(std::path::Path::new(&whole.path("server")).join("table.json"));
        table.is_ok_and(|table| {
            SITES.iter().all(|(name, _)| table.contains(&format!("{TEAM}/{name}")))
        })
    })
    .await;
    let visitors = Visitors::start(whole.visitors, &newest, &seen);
    let (mut random, mut kills, start) = (Random(SEED), 0, Instant::now());
    while kills < KILLS {
        push(whole, &newest);
        tokio::time::sleep(Duration::from_millis(random.below(PAUSE_MAX))).await;
        let victim = random.below(10);
        let (syncer, server) = (victim < 6, victim > 4);
        if syncer {
            kill(whole.syncer.take());
        }
        if server {
            kill(whole.server.take());
        }
        if random.below(2) == 0 {
            push(whole, &newest);
        }
        if syncer {
            whole.start_syncer(DATA);
        }
        if server {
            whole.start_server();
        }
        kills += usize::from(syncer) + usize::from(server);
    }
    let took = start.elapsed();
    let last = push(whole, &newest);
    until("the last push is served", async || {
        for (name, _) in SITES {
            whole.request(&format!("POST /sync/{TEAM}/{name}"), TOKEN);
        }
        show(whole, last)
    })
    .await;
    visitors.end();
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    println!(
        "{kills} kills in {} s, {last} pushes: {} whole answers, {} cut, {} refused",
        took.as_secs(),
        count(&seen.whole),
        count(&seen.cut),
        count(&seen.refused)
    );
    assert!(took < TIME, "{kills} kills took {} s", took.as_secs());
    assert!(count(&seen.whole) > KILLS, "visitors were answered");
    for (name, _) in SITES {
        rig.sites(TEAM).delete(name, &DeleteParams::default()).await.unwrap();
    }
}
