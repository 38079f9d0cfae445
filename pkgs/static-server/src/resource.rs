//! One ready answer: everything of it but the date is bytes before the first request comes.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// A path's content with its header blocks.
///
/// A block is the status line and all fields but `Date` and `Connection`, each with its CRLF.
#[derive(Debug)]
pub struct Resource {
    /// Block that comes before [`Resource::body`].
    pub head: Box<[u8]>,
    /// Block of a 304, and the validator that leads to it.
    pub validator: Option<Validator>,
    /// The content.
    pub body: Box<[u8]>,
}

/// What lets a client keep its copy.
#[derive(Debug)]
pub struct Validator {
    /// A strong entity tag with its quotes.
    pub etag: Box<str>,
    /// Block of the 304 (RFC 9110 section 15.4.5 says which fields it repeats).
    pub not_modified: Box<[u8]>,
}

impl Resource {
    /// A file. Its entity tag is taken from the content, not from a time: files of an image all
    /// have one date, which is also why there is no `Last-Modified`.
    #[must_use]
    pub fn file(media_type: &str, body: Box<[u8]>) -> Self {
        let etag = etag(&body);
        let length = body.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\nETag: {etag}\r\n"
        );
        let not_modified = format!("HTTP/1.1 304 Not Modified\r\nETag: {etag}\r\n");
        let not_modified = not_modified.into_bytes().into();
        let validator = Some(Validator { etag: etag.into(), not_modified });
        Self { head: head.into_bytes().into(), validator, body }
    }

    /// A short text that nobody may keep, such as a health check's answer.
    #[must_use]
    pub fn state(status: &str, text: &str) -> Self {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: {}\r\nCache-Control: no-store\r\n",
            text.len()
        );
        Self { head: head.into_bytes().into(), validator: None, body: text.as_bytes().into() }
    }
}

/// 128 bits of the content's SHA-256.
fn etag(body: &[u8]) -> String {
    let mut tag = String::from("\"");
    for byte in &Sha256::digest(body)[..16] {
        // Writing to a String cannot fail.
        let _ = write!(tag, "{byte:02x}");
    }
    tag + "\""
}

#[cfg(test)]
mod tests {
    use super::Resource;

    #[test]
    fn equal_content_has_one_tag_and_other_content_another() {
        let tag = |body: &[u8]| Resource::file("text/css", body.into()).validator.unwrap().etag;
        assert_eq!(tag(b"a"), tag(b"a"));
        assert_ne!(tag(b"a"), tag(b"b"));
        assert_eq!(&*tag(b""), "\"e3b0c44298fc1c149afbf4c8996fb924\"");
    }
}
