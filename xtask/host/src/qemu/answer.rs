//! Asks a pod over HTTP, from the host.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ureq::tls::TlsConfig;
use ureq::{Agent, Proxy};

use super::forward::Forward;
use super::timeline::Answer;

/// How often a pod that does not answer yet is asked.
const INTERVAL: Duration = Duration::from_millis(50);

/// How long one try may take. QEMU accepts connections for a node that has no address yet, so a try
/// can hang until its end; the next one does not wait for that, or the timeline would be late by it.
const TRY: Duration = Duration::from_secs(2);

/// How much of a page is read.
const PAGE: u64 = 16 * 1024 * 1024;

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Asks several ports until each has answered once. Ends when this is dropped.
#[derive(Debug)]
pub struct Poll {
    answers: Receiver<Answer>,
    stop: Arc<AtomicBool>,
}

/// One GET; an error status is an answer too.
pub fn get(url: &str, patience: Duration) -> Result<Page> {
    // The host's proxy has no way to this machine.
    ask_once(url, None, patience)
}

/// One GET as a stranger on the node itself: through a proxy there, to whatever certificate is shown.
pub fn get_through(proxy: &str, url: &str, patience: Duration) -> Result<Page> {
    ask_once(url, Some(Proxy::new(proxy)?), patience)
}

fn ask_once(url: &str, proxy: Option<Proxy>, patience: Duration) -> Result<Page> {
    let config = Agent::config_builder()
        .proxy(proxy)
        .http_status_as_error(false)
        .tls_config(TlsConfig::builder().disable_verification(true).build())
        .timeout_global(Some(patience));
    let agent = Agent::new_with_config(config.build());
    let context = || format!("GET {url}");
    let mut response = agent.get(url).call().with_context(context)?;
    let body = response.body_mut().with_config().limit(PAGE).lossy_utf8(true).read_to_string();
    Ok(Page { status: response.status().as_u16(), body: body.with_context(context)? })
}

impl Poll {
    /// Starts asking; `start` is when QEMU was started.
    #[must_use]
    pub fn new(forwards: &[Forward], start: Instant) -> Self {
        let (sender, answers) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        for forward in forwards {
            let (sender, stop, url) = (sender.clone(), Arc::clone(&stop), forward.url());
            thread::spawn(move || ask(&url, start, &sender, &stop));
        }
        Self { answers, stop }
    }

    /// An answer that has come since the last call.
    #[must_use]
    pub fn next(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }
}

/// At most `TRY / INTERVAL` tries are under way at once.
fn ask(url: &str, start: Instant, answers: &Sender<Answer>, stop: &AtomicBool) {
    let answered = AtomicBool::new(false);
    thread::scope(|tries| {
        while !stop.load(Ordering::Relaxed) && !answered.load(Ordering::Relaxed) {
            tries.spawn(|| {
                let good = get(url, TRY).is_ok_and(|page| page.status == 200);
                let at = start.elapsed();
                if good && !answered.swap(true, Ordering::Relaxed) {
                    // Nobody listens any more when the machine has ended meanwhile.
                    let _ = answers.send(Answer { url: url.to_owned(), at });
                }
            });
            thread::sleep(INTERVAL);
        }
    });
}

impl Drop for Poll {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
