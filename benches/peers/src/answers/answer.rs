//! A server's bytes → its behaviour in a few words that can be compared.
//!
//! Texts of error pages, dates, entity tags and server names may differ. The comparison covers the
//! number of answers, their status, the file whose bytes they carry, and the fields that a client
//! acts on.

use std::collections::BTreeMap;

/// Known bodies and the names of their files.
#[derive(Debug, Default)]
pub struct Known(BTreeMap<Vec<u8>, String>);

impl Known {
    /// Adds a file.
    pub fn add(&mut self, name: &str, body: &[u8]) {
        self.0.insert(body.to_vec(), name.to_owned());
    }
}

/// Returns the first field of this name in the first head.
pub fn field(bytes: &[u8], name: &str) -> Option<String> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

/// Summarises all answers on a connection. `methods` has the methods of the requests, in order.
pub fn summary(bytes: &[u8], methods: &[&str], known: &Known) -> String {
    let mut rest = bytes;
    let mut answers = Vec::new();
    while !rest.is_empty() {
        if rest == b"..." {
            answers.push("waits".to_owned());
            break;
        }
        // Bytes after the answer to the last request answer something else.
        let method = methods.get(finals(&answers)).copied().unwrap_or("GET");
        let Some((one, length)) = one(rest, method, known) else {
            answers.push("bytes without a head".to_owned());
            break;
        };
        answers.push(one);
        rest = &rest[length.min(rest.len())..];
    }
    if answers.is_empty() { "closes".to_owned() } else { answers.join(", ") }
}

/// Counts the answers that end a request; answers of class 1xx do not.
fn finals(answers: &[String]) -> usize {
    answers.iter().filter(|answer| !answer.starts_with('1')).count()
}

/// Summarises one answer and returns its length in bytes.
fn one(bytes: &[u8], method: &str, known: &Known) -> Option<(String, usize)> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let line = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let status = line.strip_prefix("HTTP/1.")?.get(2..5)?.to_owned();
    let bare = method == "HEAD" || status == "304" || status == "204" || status.starts_with('1');
    let length = field(bytes, "content-length").and_then(|text| text.parse::<usize>().ok());
    let body = match length {
        _ if bare => &[],
        Some(length) => bytes.get(head..head + length)?,
        None => &bytes[head..],
    };
    let mut told = status.clone();
    for name in ["location", "content-range", "allow", "content-encoding", "vary"] {
        if let Some(value) = field(bytes, name) {
            told.push(' ');
            told.push_str(&shown(name, &value));
        }
    }
    if let Some(name) = known.0.get(body).filter(|_| !body.is_empty()) {
        told.push(' ');
        told.push_str(name);
    } else if matches!(status.as_str(), "200" | "206") {
        let count = if bare { length.unwrap_or(0) } else { body.len() };
        told.push(' ');
        told.push_str(&count.to_string());
        told.push_str(" bytes");
    }
    Some((told, head + body.len()))
}

/// Returns a field's value without the parts that differ from run to run.
fn shown(name: &str, value: &str) -> String {
    match name {
        "location" => {
            let path = value.split_once("://").map_or(value, |(_, rest)| rest);
            let absolute = path.len() < value.len();
            let path = if absolute { path.find('/').map_or("/", |at| &path[at..]) } else { path };
            format!("to {}{path}", if absolute { "host" } else { "" })
        }
        "content-range" => value.replace("bytes ", ""),
        "allow" => format!("allow {}", value.replace(' ', "")),
        "content-encoding" => format!("coded {value}"),
        _ => format!("vary {}", value.to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &str, methods: &[&str], expected: &str) {
        let mut known = Known::default();
        known.add("page", b"text");
        assert_eq!(summary(bytes.replace('\n', "\r\n").as_bytes(), methods, &known), expected);
    }

    #[test]
    fn answers_are_counted_and_named() {
        check("", &["GET"], "closes");
        check("...", &["GET"], "waits");
        check("HTTP/1.1 200 OK\nContent-Length: 4\n\ntext", &["GET"], "200 page");
        check(
            "HTTP/1.1 200 OK\nContent-Length: 4\n\nHTTP/1.1 404 No\ncontent-length: 1\n\nx",
            &["HEAD", "GET"],
            "200 4 bytes, 404",
        );
        check(
            "HTTP/1.1 100 Continue\n\nHTTP/1.1 206 P\nContent-Range: bytes 0-1/4\nContent-Length: 2\n\nte",
            &["GET"],
            "100, 206 0-1/4 2 bytes",
        );
        check("HTTP/1.1 301 M\nLocation: http://a:1/d/\n\nmoved", &["GET"], "301 to host/d/");
        check("text", &["GET"], "bytes without a head");
    }
}
