//! The gateway's own answers. Each of them ends the connection.

use std::fmt::Write as _;

use super::Refusal;

/// Seconds after which a client may try a backend again.
const RETRY_AFTER: u32 = 5;

/// Returns the answer to a request that is refused. The answer to HEAD has no body.
#[must_use]
pub fn refusal(refusal: Refusal, to_head: bool) -> Vec<u8> {
    let (status, text) = match refusal {
        Refusal::BadRequest(why) => ("400 Bad Request", why),
        Refusal::Connect => ("405 Method Not Allowed", "CONNECT is for forward proxies"),
        Refusal::NotFound => ("404 Not Found", "no site with this name is served here"),
        Refusal::Timeout => ("408 Request Timeout", "the request did not arrive in time"),
        Refusal::Misdirected => {
            ("421 Misdirected Request", "this host needs a connection of its own")
        }
        Refusal::TooLarge => {
            ("431 Request Header Fields Too Large", "the request's head is too large")
        }
        Refusal::BadGateway => ("502 Bad Gateway", "the site's server cannot be reached"),
        Refusal::GatewayTimeout => ("504 Gateway Timeout", "the site's server does not respond"),
        Refusal::Version => ("505 HTTP Version Not Supported", "only HTTP/1 is served here"),
    };
    let extra = match refusal {
        Refusal::BadGateway | Refusal::GatewayTimeout => format!("Retry-After: {RETRY_AFTER}\r\n"),
        Refusal::Connect => "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n".to_owned(),
        _ => String::new(),
    };
    message(status, &extra, text, to_head)
}

/// Returns a redirect to `https://` that keeps the method (RFC 9110 section 15.4.9).
///
/// Neither argument can break out of the Location field: `host` is normalised, and `path` comes from
/// a request line, which has no control characters.
#[must_use]
pub fn redirect(host: &str, path: &[u8], to_head: bool) -> Vec<u8> {
    let mut location = format!("Location: https://{host}");
    if path.first() != Some(&b'/') {
        location.push('/');
    }
    for byte in path {
        // Other bytes must be percent-encoded in a URI.
        let _ = if byte.is_ascii_graphic() {
            location.write_char(char::from(*byte))
        } else {
            write!(location, "%{byte:02X}")
        };
    }
    location.push_str("\r\n");
    message("308 Permanent Redirect", &location, "this site is served over https", to_head)
}

/// Returns the answer to a client that speaks HTTP on a TLS port.
#[must_use]
pub fn plain_on_tls() -> Vec<u8> {
    refusal(Refusal::BadRequest("this port speaks TLS: use https://"), false)
}

fn message(status: &str, extra: &str, text: &str, to_head: bool) -> Vec<u8> {
    let length = text.len() + 1;
    let mut out = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\n{extra}Connection: close\r\n\r\n"
    );
    if !to_head {
        out.push_str(text);
        out.push('\n');
    }
    out.into_bytes()
}
