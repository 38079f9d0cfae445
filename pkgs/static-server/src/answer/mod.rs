//! Head and content → answer, as a pure function: apart from these, the sent bytes depend only on
//! the date.
//!
//! [`Answer`] is data. Usually its head is a prepared block of the index, and its body refers to
//! bytes of the index.

mod found;
pub mod own;
mod parts;
mod ruled;
#[cfg(test)]
mod tests;
mod unlisted;

use std::borrow::Cow;
use std::sync::Arc;

use crate::answer::own::Own;
use crate::content::{Content, Site};
use crate::index::store::Store;
use crate::index::{Index, Kind, Span};
use crate::request::{Head, Method, Target};
use crate::rules::Redirect;
use crate::rules::pattern::escape;
use crate::status::Status;

/// The methods that content supports.
const ALLOW: &str = "Allow: GET, HEAD, OPTIONS\r\n";

/// The data from which answers are made.
#[derive(Debug, Clone, Copy)]
pub struct Serving<'a> {
    /// The content.
    pub content: &'a Content,
    /// True if `/ready` is a 200.
    pub ready: bool,
    /// The current time, in seconds since 1970.
    pub now: u64,
}

/// An answer, except for `Date`, `Connection` and the empty line, which follow the head.
#[derive(Debug)]
pub struct Answer {
    /// The status, for the access log and the counters.
    pub status: u16,
    /// Status line and fields.
    pub head: Block,
    /// The fields after the head.
    pub own: Own,
    /// The memory that [`Block::Ready`] and [`Payload::Piece`] refer to.
    pub source: Source,
    /// The body.
    pub body: Payload,
}

/// The memory that an answer keeps alive until it ends.
#[derive(Debug, Clone)]
pub enum Source {
    /// None.
    Nothing,
    /// The index with all small bodies.
    Index(Arc<Index>),
    /// The store of one body, which later content may share.
    Store(Arc<Store>),
}

/// Status line and fields.
#[derive(Debug)]
pub enum Block {
    /// Made together with the index, and shared by many answers.
    Ready(Span),
    /// Made for this answer.
    Made(Vec<u8>),
}

/// A body.
#[derive(Debug)]
pub enum Payload {
    /// No body, or no body because of HEAD.
    Nothing,
    /// A text of the server's own.
    Text(Cow<'static, str>),
    /// Bytes of the index.
    Piece(Piece),
    /// Several pieces, each with the bytes before it.
    Parts(Vec<(Vec<u8>, Piece)>),
}

/// A range of a variant's body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Piece {
    /// The number of the variant in the index.
    pub variant: u32,
    /// The offset of the first byte in the variant's body.
    pub start: u64,
    /// The number of bytes.
    pub len: u64,
}

impl Answer {
    /// Makes an answer with its own head and without a body.
    fn made(status: u16, head: String) -> Self {
        let head = Block::Made(head.into_bytes());
        Self { status, head, own: Own::default(), source: Source::Nothing, body: Payload::Nothing }
    }

    /// Makes an answer with a text; the answer to HEAD has no body.
    #[must_use]
    pub fn text(status: &str, fields: &str, text: Cow<'static, str>, method: Method) -> Self {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n{fields}",
            text.len()
        );
        let code = status.split(' ').next().and_then(|code| code.parse().ok());
        let mut answer = Self::made(code.unwrap_or(0), head);
        if method != Method::Head {
            answer.body = Payload::Text(text);
        }
        answer
    }
}

/// Makes an answer whose text is the status; the answer to HEAD has no body.
#[must_use]
pub fn plain(status: Status, method: Method) -> Answer {
    let fields = match status {
        Status::MethodNotAllowed => ALLOW,
        Status::NotFound | Status::MisdirectedRequest => "Cache-Control: no-store\r\n",
        _ => "",
    };
    Answer::text(&status.to_string(), fields, format!("{status}\n").into(), method)
}

/// Answers a request.
#[must_use]
pub fn answer(serving: &Serving<'_>, head: &Head<'_>) -> Answer {
    let is_allowed = has_method(head);
    let path = match (head.method, &head.target) {
        (Method::Unknown, _) => return plain(Status::NotImplemented, Method::Get),
        (Method::Options, Target::Server) => return options(),
        (_, Target::Path { path, .. }) => path,
        _ => return plain(Status::MethodNotAllowed, Method::Get),
    };
    let site = match serving.content.site(head.host(), path) {
        Ok(site) => site,
        Err(_) if !is_allowed => return plain(Status::MethodNotAllowed, Method::Get),
        Err(status) => {
            let health = health(serving, path, head.method);
            return health.unwrap_or_else(|| plain(status, head.method));
        }
    };
    if site.is_unlisted {
        let answer = Answer::robots(head.method, path);
        let answer = answer.unwrap_or_else(|| of_site(serving, head, site, path));
        return answer.unlisted(site.index);
    }
    of_site(serving, head, site, path)
}

/// Answers a request for a path of a site.
fn of_site(serving: &Serving<'_>, head: &Head<'_>, site: Site<'_>, path: &[u8]) -> Answer {
    let Site { index, prefix, .. } = site;
    let is_allowed = has_method(head);
    let request = |path| Request { serving, index, head, path };
    let (whole, path) = (path, &path[prefix.len()..]);
    if path.is_empty() && is_allowed {
        return request(whole).neighbour(Kind::AddSlash);
    }
    let request = request(path);
    if !is_allowed {
        return request.ruled(plain(Status::MethodNotAllowed, Method::Get));
    }
    match index.rules.redirect(path) {
        None => request.at(path),
        // A rule for all paths does not apply to the probes' paths.
        Some(_) if serving.content.has_probes() && is_health(path) => request.at(path),
        Some(Redirect::Serve(path)) => request.at(&served(index, path)),
        Some(Redirect::To { status, location }) => {
            request.elsewhere(status, below(prefix, location))
        }
    }
}

/// True for a method that content supports.
const fn has_method(head: &Head<'_>) -> bool {
    matches!(head.method, Method::Get | Method::Head | Method::Options)
}

/// Returns the location of a site's redirect: the site's paths lie below its prefix.
fn below(prefix: &[u8], location: Vec<u8>) -> Vec<u8> {
    if location.starts_with(b"/") { [escape(prefix), location].concat() } else { location }
}

/// Returns the path under which the index has the content. A rule may name a folder without its
/// slash, or a page with the extension that clean URLs leave out.
fn served(index: &Index, mut path: Vec<u8>) -> Vec<u8> {
    let shorter = |path: &[u8], end: &[u8]| path.strip_suffix(end).map(<[u8]>::to_vec);
    match index.find(&path) {
        Some(Kind::AddSlash) => path.push(b'/'),
        Some(Kind::StripSlash) => drop(path.pop()),
        Some(Kind::StripHtml) => {
            let folder = shorter(&path, b"index.html").filter(|path| path.ends_with(b"/"));
            path = folder.or_else(|| shorter(&path, b".html")).unwrap_or(path);
        }
        _ => {}
    }
    path
}

fn is_health(path: &[u8]) -> bool {
    matches!(path, b"/health" | b"/ready")
}

fn options() -> Answer {
    Answer::made(204, format!("HTTP/1.1 204 No Content\r\n{ALLOW}"))
}

/// Answers a probe, unless a file has the path.
fn health(serving: &Serving<'_>, path: &[u8], method: Method) -> Option<Answer> {
    let well = match path {
        _ if !serving.content.has_probes() => return None,
        b"/health" => true,
        b"/ready" => serving.ready,
        _ => return None,
    };
    if method == Method::Options {
        return Some(options());
    }
    let (status, text) = if well {
        ("200 OK", "ok\n")
    } else {
        (
            "503 Service Unavailable",
            "a part of the content is missing, or the server is about to stop\n",
        )
    };
    Some(Answer::text(status, "Cache-Control: no-store\r\n", text.into(), method))
}

/// A request for a path of a site.
struct Request<'a> {
    serving: &'a Serving<'a>,
    index: &'a Arc<Index>,
    head: &'a Head<'a>,
    /// The decoded path of the request, without the site's prefix.
    path: &'a [u8],
}

impl Request<'_> {
    /// Answers with the content at a path.
    fn at(&self, path: &[u8]) -> Answer {
        match self.index.find(path) {
            None => self.nothing_at(path),
            Some(_) if self.head.method == Method::Options => self.ruled(options()),
            Some(Kind::Resource(number)) => self.found(path, number),
            Some(kind) => self.neighbour(kind),
        }
    }

    fn nothing_at(&self, path: &[u8]) -> Answer {
        if let Some(answer) = health(self.serving, path, self.head.method) {
            return answer;
        }
        if self.head.method == Method::Options {
            return self.ruled(plain(Status::NotFound, Method::Options));
        }
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        match (self.index.fallback, self.index.error_page(path)) {
            (Some(page), _) if !name.contains(&b'.') => self.instead(page),
            (_, Some(page)) => self.instead(page),
            _ => self.ruled(plain(Status::NotFound, self.head.method)),
        }
    }

    /// Redirects the client to a path next to the requested one.
    ///
    /// The location is relative, so that it also works behind a proxy that strips a prefix. It
    /// begins with a dot, so that no file name is mistaken for a scheme or another host. It is made
    /// from the decoded path, by which the answer was found, so that it does not depend on the
    /// client's way of escaping it.
    fn neighbour(&self, kind: Kind) -> Answer {
        let last = |path: &[u8]| path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let path = self.path;
        let location = match kind {
            Kind::StripSlash => {
                let path = path.strip_suffix(b"/").unwrap_or(path);
                [&b"../"[..], &escape(&path[last(path)..])].concat()
            }
            Kind::StripHtml => {
                let name = &path[last(path)..];
                let name = name.strip_suffix(b".html").unwrap_or(name);
                [&b"./"[..], &if name == b"index" { Vec::new() } else { escape(name) }].concat()
            }
            _ => [&b"./"[..], &escape(&path[last(path)..]), b"/"].concat(),
        };
        self.elsewhere(308, location)
    }

    fn elsewhere(&self, status: u16, mut location: Vec<u8>) -> Answer {
        if let Target::Path { query: Some(query), .. } = self.head.target
            && !location.contains(&b'?')
        {
            let fragment = location.iter().position(|byte| *byte == b'#').unwrap_or(location.len());
            let fragment = location.split_off(fragment);
            location = [&location, &b"?"[..], query, &fragment].concat();
        }
        let reason = match status {
            301 => "Moved Permanently",
            302 => "Found",
            303 => "See Other",
            307 => "Temporary Redirect",
            _ => "Permanent Redirect",
        };
        let location = String::from_utf8_lossy(&location);
        self.ruled(Answer::made(
            status,
            format!("HTTP/1.1 {status} {reason}\r\nContent-Length: 0\r\nLocation: {location}\r\n"),
        ))
    }
}
