//! The first bytes of a client: its PROXY header and its `ClientHello`.

use super::end::{Closing, End};
use super::inbox::Inbox;
use super::session::Session;
use crate::http::answer;
use crate::proxy;
use crate::tls::Alert;
use crate::tls::hello::{Garbage, Name, Scan};

/// Reads the PROXY header; returns false while it is incomplete.
pub(super) fn proxy_header(inbox: &mut Inbox, session: &mut Session) -> Result<bool, Closing> {
    let header = proxy::parse(inbox.bytes()).map_err(|_| Closing::Now(End::BadProxy))?;
    let Some(header) = header else { return Ok(false) };
    inbox.consume(header.length);
    if let Some((client, destination)) = header.addresses {
        session.introduce(client, destination);
    }
    Ok(true)
}

/// Reads the `ClientHello` and takes its route; returns false while the message is incomplete.
pub(super) fn client_hello(
    scan: &mut Scan,
    inbox: &Inbox,
    session: &mut Session,
) -> Result<bool, Closing> {
    let hello = match scan.parse(inbox.bytes()) {
        Ok(Some(hello)) => hello,
        Ok(None) => return Ok(false),
        Err(Garbage) if is_request(inbox.bytes()) => {
            return Err(Closing::Answer(answer::plain_on_tls(), End::Garbage));
        }
        Err(Garbage) => return Err(Closing::Now(End::Garbage)),
    };
    let route = match &hello.name {
        Name::Known(name) => {
            session.asks_for(name);
            session.find(Some(name), &hello.alpn)
        }
        // No route has an invalid name, so it gets the default route like an unknown one.
        Name::Absent | Name::Invalid => session.find(None, &hello.alpn),
    };
    let unknown = || Closing::alert(Alert::UnrecognizedName, End::UnknownName);
    session.take_route(route.ok_or_else(unknown)?);
    Ok(true)
}

/// True if these bytes may begin an HTTP request, which starts with a method and a space.
fn is_request(bytes: &[u8]) -> bool {
    let method = bytes.iter().take(8).take_while(|byte| byte.is_ascii_uppercase()).count();
    let next = bytes.get(method);
    method > 0 && next.is_none_or(|byte| *byte == b' ') && method < 8
}

#[cfg(test)]
mod tests {
    use super::is_request;

    #[test]
    fn an_http_request_is_distinguished_from_other_garbage() {
        for good in ["G", "GET", "GET / HTTP/1.1\r\n", "OPTIONS * "] {
            assert!(is_request(good.as_bytes()), "{good}");
        }
        for bad in ["", "SSH-2.0", "get / ", "\0", " GET", "ABCDEFGHIJ"] {
            assert!(!is_request(bad.as_bytes()), "{bad}");
        }
    }
}
