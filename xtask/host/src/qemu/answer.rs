//! HTTP requests from the host to pods.

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

/// The pause between two requests to a pod that does not answer yet.
const INTERVAL: Duration = Duration::from_millis(50);

/// The longest time for one request. QEMU accepts connections for a node without an address, so a
/// request can hang until this limit. The next request starts meanwhile, so that the time of the first
/// answer is exact.
const TRY_MAX: Duration = Duration::from_secs(2);

/// The largest number of bytes read from a page.
const PAGE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A server's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Sends requests to several ports until each has answered once, or until this is dropped.
#[derive(Debug)]
pub struct Poll {
    answers: Receiver<Answer>,
    stop: Arc<AtomicBool>,
}

/// Sends one GET request; an error status counts as an answer.
pub fn get(url: &str, patience: Duration) -> Result<Page> {
    // The proxy of the host's settings cannot reach this machine.
    ask_once(url, None, None, patience)
}

/// Sends one GET request to a server that has several hosts.
pub fn get_as(url: &str, host: &str, patience: Duration) -> Result<Page> {
    ask_once(url, Some(host), None, patience)
}

/// Sends one GET request from the node itself, through a proxy there, and accepts any certificate.
pub fn get_through(proxy: &str, url: &str, patience: Duration) -> Result<Page> {
    ask_once(url, None, Some(Proxy::new(proxy)?), patience)
}

fn ask_once(
    url: &str,
    host: Option<&str>,
    proxy: Option<Proxy>,
    patience: Duration,
) -> Result<Page> {
    let config = Agent::config_builder()
        .proxy(proxy)
        .http_status_as_error(false)
        .tls_config(TlsConfig::builder().disable_verification(true).build())
        .timeout_global(Some(patience));
    let agent = Agent::new_with_config(config.build());
    let context = || format!("GET {url}");
    let mut request = agent.get(url);
    if let Some(host) = host {
        request = request.header("Host", host);
    }
    let mut response = request.call().with_context(context)?;
    let body =
        response.body_mut().with_config().limit(PAGE_BYTES_MAX).lossy_utf8(true).read_to_string();
    Ok(Page { status: response.status().as_u16(), body: body.with_context(context)? })
}

impl Poll {
    /// Starts the requests; `start` is the time of QEMU's start.
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

    /// Returns the next answer, if one has come.
    #[must_use]
    pub fn next(&self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }
}

/// Sends requests until one succeeds, at most `TRY_MAX / INTERVAL` of them at the same time.
fn ask(url: &str, start: Instant, answers: &Sender<Answer>, stop: &AtomicBool) {
    let answered = AtomicBool::new(false);
    thread::scope(|tries| {
        while !stop.load(Ordering::Relaxed) && !answered.load(Ordering::Relaxed) {
            tries.spawn(|| {
                let good = get(url, TRY_MAX).is_ok_and(|page| page.status == 200);
                let at = start.elapsed();
                if good && !answered.swap(true, Ordering::Relaxed) {
                    // The receiver is gone if the machine has stopped in the meantime.
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
