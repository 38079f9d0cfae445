//! A visitor: one connection to the server that is used again for each request, and the content of
//! pages.
//!
//! Every line of a page repeats its site and its revision, so a page that mixes two revisions, or
//! comes from another site, is recognised.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::roles::DOMAIN;

/// The longest time for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// The lines of a page, of about 70 bytes each.
const LINES: usize = 100;

/// The namespaces that the sites are spread over.
pub const NAMESPACES: usize = 50;

/// A connection to the server.
pub struct Visitor {
    stream: BufReader<TcpStream>,
}

/// Returns the host of a site.
pub fn host(site: usize) -> String {
    format!("site-{site}.team-{}.{DOMAIN}", site % NAMESPACES)
}

/// Returns the first page of a revision of a site.
pub fn page(site: usize, revision: u64) -> String {
    let line = |number| {
        format!("<p>line {number} of site {site} in revision {revision}, as it was pushed</p>\n")
    };
    (0..LINES).map(line).collect()
}

impl Visitor {
    /// Connects to the server.
    pub fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .with_context(|| format!("cannot connect to port {port}"))?;
        stream.set_read_timeout(Some(ANSWER_MAX)).context("cannot set a time limit")?;
        stream.set_nodelay(true).context("cannot set TCP_NODELAY")?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Returns the revision that a site shows, or `None` if it is not served yet.
    pub fn revision(&mut self, site: usize) -> Result<Option<u64>> {
        let (status, body) = self.get(&host(site))?;
        match status {
            200 => Ok(Some(revision_of(site, &body)?)),
            404 | 421 => Ok(None),
            _ => bail!("site {site} answers with {status}"),
        }
    }

    fn get(&mut self, host: &str) -> Result<(u16, String)> {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        self.stream.get_mut().write_all(head.as_bytes()).context("cannot send a request")?;
        let mut line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.with_context(|| format!("{line:?} is not a status line"))?;
        let mut length = 0;
        while !line.is_empty() {
            line = self.line()?;
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().context("cannot read Content-Length")?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).context("an answer was cut")?;
        Ok((status, String::from_utf8(body).context("a body is not UTF-8")?))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).context("cannot read an answer")?;
        ensure!(read > 0, "the server closed the connection");
        Ok(line.trim_end().to_owned())
    }
}

/// Returns the revision of a page, which must be that site's whole page.
fn revision_of(site: usize, body: &str) -> Result<u64> {
    let word = body.split_once(" in revision ").and_then(|(_, rest)| rest.split_once(','));
    let revision = word.and_then(|(word, _)| word.parse().ok());
    let revision = revision.with_context(|| format!("site {site} shows another page: {body}"))?;
    ensure!(
        body == page(site, revision),
        "site {site} mixes revision {revision} with others: {body}"
    );
    Ok(revision)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mixed_page_and_that_of_another_site_are_recognised() {
        assert_eq!(revision_of(7, &page(7, 12)).unwrap(), 12);
        assert!(revision_of(8, &page(7, 12)).is_err());
        let mixed = page(7, 12).replacen("revision 12", "revision 13", 50);
        assert!(revision_of(7, &mixed).is_err());
        assert!(revision_of(7, &page(7, 12)[..500]).is_err());
        assert!(revision_of(7, "").is_err());
    }
}
