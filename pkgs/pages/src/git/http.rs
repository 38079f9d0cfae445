//! gitoxide's HTTP over ureq.
//!
//! A connection goes to an address that [`Guard`] has checked. Redirects are followed for the first
//! request only, as git does; each is checked as a URL of its own, and credentials do not follow to
//! another server. Proxies of the environment are ignored, because they would look up names again.

use std::fmt;
use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gix_transport::client::blocking_io::http::{GetResponse, Http, PostBodyDataKind, PostResponse};
use ureq::config::Config;
use ureq::http::{Method, Request, Response, Uri, header};
use ureq::tls::TlsConfig;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, AsSendBody, Body};

use crate::git::limits::Failure;
use crate::git::meter::{Meter, Metered};
use crate::guard::lookup::Guard;
use crate::guard::url::{GitUrl, Scheme};

/// The most redirects of one request.
const REDIRECTS_MAX: usize = 3;

/// The most bytes of an answer's header. Forges send up to about 4 KiB.
const HEADER_BYTES_MAX: usize = 32 << 10;

type Result<T, E = gix_error::Error> = std::result::Result<T, E>;

/// An HTTP client for one fetch.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    meter: Arc<Meter>,
    redirected: Option<String>,
}

impl Client {
    /// Creates a client. It shares no connection with other fetches.
    #[must_use]
    pub fn new(guard: Guard, meter: Arc<Meter>, tls: TlsConfig) -> Self {
        let config = Config::builder()
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .max_response_header_size(HEADER_BYTES_MAX)
            .user_agent("")
            .accept("")
            .accept_encoding("")
            .tls_config(tls)
            .build();
        let resolver = Checked { guard, meter: meter.clone() };
        let agent = Agent::with_parts(config, DefaultConnector::new(), resolver);
        Self { agent, meter, redirected: None }
    }

    /// Sends a request; the answer may be a redirect.
    fn send(
        &self,
        method: Method,
        url: &str,
        fields: &[String],
        body: impl AsSendBody,
    ) -> Result<Response<Body>> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in fields.iter().filter_map(|field| field.split_once(':')) {
            request = request.header(name.trim(), value.trim());
        }
        let request = request.body(body).map_err(|error| self.broken(&error))?;
        let time = self.meter.remaining().map_err(gix_error::Error::from_error)?;
        let request = self.agent.configure_request(request).timeout_global(Some(time)).build();
        self.agent.run(request).map_err(|error| match error {
            ureq::Error::Timeout(_) => self.fail(Failure::TimedOut(self.meter.limits().time)),
            error => self.broken(&error),
        })
    }

    /// Sends a request outside of git's protocol, and returns the body of the answer. Redirects are refused.
    pub fn exchange(
        &self,
        method: Method,
        url: &str,
        fields: &[String],
        body: &[u8],
    ) -> Result<impl Read, Failure> {
        let connection =
            |error: gix_error::Error| self.meter.cause_or(Failure::Connection(error.to_string()));
        let answer = if method == Method::GET {
            self.send(method, url, fields, ()).map_err(connection)?
        } else {
            self.send(method, url, fields, body).map_err(connection)?
        };
        let failure = match answer.status().as_u16() {
            200..=299 => {
                let inner = answer.into_body().into_with_config().limit(u64::MAX).reader();
                return Ok(Metered { inner, meter: self.meter.clone() });
            }
            300..=399 => Failure::Redirect,
            401 | 403 => Failure::Denied,
            404 | 410 => Failure::NotFound,
            status => Failure::Protocol(format!("HTTP status {status}")),
        };
        Err(failure)
    }

    fn broken(&self, error: &dyn fmt::Display) -> gix_error::Error {
        let error = self.meter.end(Failure::Connection(error.to_string()));
        gix_error::Error::from_error(error)
    }

    fn fail(&self, failure: Failure) -> gix_error::Error {
        gix_error::Error::from_error(self.meter.end(failure))
    }

    /// Checks the status of an answer that is not a redirect.
    fn accepted(&self, answer: Response<Body>) -> Result<Response<Body>> {
        match answer.status().as_u16() {
            200..=299 => Ok(answer),
            401 | 403 => Err(self.fail(Failure::Denied)),
            404 | 410 => Err(self.fail(Failure::NotFound)),
            status => Err(self.fail(Failure::Protocol(format!("HTTP status {status}")))),
        }
    }

    /// Returns the new base URL of a redirect. The rest of the URL must stay as it was.
    fn redirect(&self, answer: &Response<Body>, base: &str, tail: &str) -> Result<String> {
        let old: GitUrl = base.parse().map_err(|_| self.fail(Failure::Redirect))?;
        let location = answer.headers().get(header::LOCATION);
        let location = location.and_then(|value| value.to_str().ok()).unwrap_or_default();
        next_base(&old, location, tail).ok_or_else(|| self.fail(Failure::Redirect))
    }
}

/// Returns the base of a redirect's location, if the scheme is at least as safe.
fn next_base(old: &GitUrl, location: &str, tail: &str) -> Option<String> {
    let location = match location.strip_prefix('/') {
        Some(rest) if !rest.starts_with('/') => {
            let scheme = if old.scheme == Scheme::Https { "https" } else { "http" };
            format!("{scheme}://{}:{}{location}", old.bracketed_host(), old.port)
        }
        _ => location.to_owned(),
    };
    let base = location.strip_suffix(tail)?.trim_end_matches('/');
    let new: GitUrl = base.parse().ok()?;
    let is_safe =
        new.scheme == Scheme::Https || (new.scheme == Scheme::Http && old.scheme == Scheme::Http);
    is_safe.then(|| new.to_string())
}

/// True if two base URLs are on the same server.
fn is_same_server(a: &str, b: &str) -> bool {
    let place = |text: &str| {
        let url: GitUrl = text.parse().ok()?;
        Some((url.scheme, url.host, url.port))
    };
    place(a).is_some() && place(a) == place(b)
}

impl Http for Client {
    type Headers = Lines;
    type ResponseBody = Content;
    type PostBody = Outgoing;

    fn get(
        &mut self,
        url: &str,
        base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<GetResponse<Lines, Content>> {
        let mut fields: Vec<String> =
            headers.into_iter().map(|field| field.as_ref().to_owned()).collect();
        let tail = url.strip_prefix(base_url).unwrap_or_default().trim_start_matches('/');
        let mut base = base_url.to_owned();
        for _ in 0..=REDIRECTS_MAX {
            let url = format!("{}/{tail}", base.trim_end_matches('/'));
            let answer = self.send(Method::GET, &url, &fields, ())?;
            if !answer.status().is_redirection() {
                let exchange = Exchange::done(self.clone(), self.accepted(answer)?);
                return Ok(GetResponse {
                    headers: Lines::new(exchange.clone()),
                    body: Content::new(exchange),
                });
            }
            let next = self.redirect(&answer, &base, tail)?;
            if !is_same_server(&base, &next) {
                fields.retain(|field| !field.to_ascii_lowercase().starts_with("authorization:"));
            }
            self.redirected = Some(next.clone());
            base = next;
        }
        Err(self.fail(Failure::Redirect))
    }

    fn post(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        _body: PostBodyDataKind,
    ) -> Result<PostResponse<Lines, Content, Outgoing>> {
        let fields = headers.into_iter().map(|field| field.as_ref().to_owned()).collect();
        let pending = Pending { url: url.to_owned(), fields, body: Vec::new() };
        let exchange = Exchange::pending(self.clone(), pending);
        Ok(PostResponse {
            post_body: Outgoing(exchange.clone()),
            headers: Lines::new(exchange.clone()),
            body: Content::new(exchange),
        })
    }

    fn configure(&mut self, _config: &dyn std::any::Any) -> Result<()> {
        Ok(())
    }

    fn redirected_base_url(&self) -> Option<String> {
        self.redirected.clone()
    }
}

/// A request and its answer. The request is sent when the answer is read for the first time, because
/// gitoxide writes the request's body after it has received the readers.
#[derive(Clone)]
struct Exchange {
    client: Client,
    state: Arc<Mutex<State>>,
}

enum State {
    Pending(Pending),
    Done(Response<Body>),
    /// The answer's body has been taken, or the request failed.
    Taken,
}

struct Pending {
    url: String,
    fields: Vec<String>,
    body: Vec<u8>,
}

impl Exchange {
    fn pending(client: Client, pending: Pending) -> Self {
        Self { client, state: Arc::new(Mutex::new(State::Pending(pending))) }
    }

    fn done(client: Client, answer: Response<Body>) -> Self {
        Self { client, state: Arc::new(Mutex::new(State::Done(answer))) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the request unless that has happened.
    fn sent(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        if let State::Pending(pending) = &*state {
            let (url, fields) = (&pending.url, &pending.fields);
            let answer = self.client.send(Method::POST, url, fields, &pending.body[..]);
            let answer = answer.and_then(|answer| self.client.accepted(answer));
            *state = State::Taken;
            *state = State::Done(answer.map_err(io::Error::other)?);
        }
        Ok(state)
    }

    /// Returns the header, one field a line.
    fn lines(&self) -> io::Result<Vec<u8>> {
        let state = self.sent()?;
        let State::Done(answer) = &*state else { return Ok(Vec::new()) };
        let mut lines = Vec::new();
        for (name, value) in answer.headers() {
            lines.extend_from_slice(name.as_str().as_bytes());
            lines.extend_from_slice(b": ");
            lines.extend_from_slice(value.as_bytes());
            lines.push(b'\n');
        }
        Ok(lines)
    }

    /// Takes the answer's body.
    fn body(&self) -> io::Result<Box<dyn Read + Send + Sync>> {
        let mut state = self.sent()?;
        match std::mem::replace(&mut *state, State::Taken) {
            State::Done(answer) => {
                let body = answer.into_body().into_with_config().limit(u64::MAX).reader();
                Ok(Box::new(Metered { inner: body, meter: self.client.meter.clone() }))
            }
            _ => Ok(Box::new(io::empty())),
        }
    }
}

/// The body of a request.
pub struct Outgoing(Exchange);

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *self.0.state() {
            State::Pending(pending) => pending.body.extend_from_slice(bytes),
            _ => return Err(io::ErrorKind::BrokenPipe.into()),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The header of an answer, as lines.
pub struct Lines {
    exchange: Exchange,
    text: Option<Cursor<Vec<u8>>>,
}

impl Lines {
    const fn new(exchange: Exchange) -> Self {
        Self { exchange, text: None }
    }

    fn text(&mut self) -> io::Result<&mut Cursor<Vec<u8>>> {
        if self.text.is_none() {
            self.text = Some(Cursor::new(self.exchange.lines()?));
        }
        self.text.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Read for Lines {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.text()?.read(buffer)
    }
}

impl BufRead for Lines {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.text()?.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        if let Some(text) = &mut self.text {
            text.consume(count);
        }
    }
}

/// The body of an answer.
pub struct Content {
    exchange: Exchange,
    reader: Option<BufReader<Box<dyn Read + Send + Sync>>>,
}

impl Content {
    const fn new(exchange: Exchange) -> Self {
        Self { exchange, reader: None }
    }

    fn reader(&mut self) -> io::Result<&mut BufReader<Box<dyn Read + Send + Sync>>> {
        if self.reader.is_none() {
            self.reader = Some(BufReader::with_capacity(64 << 10, self.exchange.body()?));
        }
        self.reader.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader()?.read(buffer)
    }
}

impl BufRead for Content {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader()?.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        if let Some(reader) = &mut self.reader {
            reader.consume(count);
        }
    }
}

/// ureq's resolver: every address that it returns has been checked.
#[derive(Debug)]
struct Checked {
    guard: Guard,
    meter: Arc<Meter>,
}

impl Checked {
    fn stop(&self, failure: Failure) -> ureq::Error {
        drop(self.meter.end(failure));
        ureq::Error::HostNotFound
    }
}

impl Resolver for Checked {
    fn resolve(
        &self,
        uri: &Uri,
        _config: &Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let (scheme, authority) = (uri.scheme_str(), uri.authority());
        let (Some(scheme), Some(authority)) = (scheme, authority) else {
            return Err(self.stop(Failure::Redirect));
        };
        let url: Result<GitUrl, _> = format!("{scheme}://{authority}/-").parse();
        let url = url.map_err(|_| self.stop(Failure::Redirect))?;
        let time = self.meter.remaining()?;
        let found = self.guard.addresses(&url, time);
        let found = found.map_err(|error| self.stop(error.into()))?;
        let mut addresses = self.empty();
        for address in found {
            addresses.push(address);
        }
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::{is_same_server, next_base};

    const TAIL: &str = "info/refs?service=git-upload-pack";

    fn check(old: &str, location: &str, expected: Option<&str>) {
        let found = next_base(&old.parse().unwrap(), location, TAIL);
        assert_eq!(found.as_deref(), expected, "{location}");
    }

    #[test]
    fn a_redirect_changes_only_the_base_and_never_loses_encryption() {
        let old = "https://a.example/x";
        let to = |base: &str| format!("{base}/{TAIL}");
        check(old, &to("https://b.example/y.git"), Some("https://b.example/y.git"));
        check(old, &to("/y"), Some("https://a.example/y"));
        check(old, &to("http://a.example/x"), None);
        check(old, "https://b.example/login", None);
        check(old, &to("//b.example/y"), None);
        check(old, &to("ssh://b.example/y"), None);
        check(old, &to("https://u:secret@b.example/y"), None);
        check(old, "", None);
        check("http://a.example/x", &to("http://a.example:81/x"), Some("http://a.example:81/x"));
    }

    #[test]
    fn credentials_stay_on_their_server() {
        assert!(is_same_server("https://a.example/x", "https://a.example:443/y"));
        assert!(!is_same_server("https://a.example/x", "https://a.example:444/x"));
        assert!(!is_same_server("http://a.example/x", "https://a.example/x"));
        assert!(!is_same_server("bad", "bad"));
    }
}
