//! A server with the page of 1,234 sites, some with hostile texts.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;

use pages::board::page::{choose, page};
use pages::board::query::Query;
use pages::board::{Health, POLICY, Row, STYLE};

/// The texts that a tenant may try to bring into the page.
const HOSTILE: [&str; 3] = [
    "<script>document.title='changed'</script>",
    "\"><img src=x onerror=alert(1)>",
    "\u{202e}txet desrever</table></main>",
];

static PATHS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Returns the paths that browsers have asked for.
pub fn paths() -> BTreeSet<String> {
    PATHS.lock().unwrap().iter().filter(|path| *path != "/broken").cloned().collect()
}

/// Starts the server; its threads end with the process.
pub fn start() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || drop(answer(stream)));
        }
    });
    address
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut field = String::from("x");
    while !field.trim().is_empty() {
        field.clear();
        reader.read_line(&mut field)?;
    }
    let target = line.split(' ').nth(1).unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    PATHS.lock().unwrap().insert(path.to_owned());
    let query = Query::new(query);
    let part = choose((0..1234).map(row), &query);
    let text = page(&part, &query, "2026-01-02T00:00:00Z");
    let (kind, body) = match path {
        "/status" => ("text/html", text),
        "/status.css" => ("text/css", STYLE.to_owned()),
        // As if a text was not escaped.
        "/broken" => ("text/html", text.replace("<main>", &format!("<main>{}", HOSTILE[0]))),
        _ => ("text/plain", String::new()),
    };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\n\
         Content-Security-Policy: {POLICY}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn row(number: usize) -> Row {
    let is_bad = number.is_multiple_of(10);
    let hostile = HOSTILE[number / 10 % HOSTILE.len()];
    Row {
        site: format!("team/site-{number:04}").parse().unwrap(),
        url: Some(format!("https://site-{number:04}.a-team-with-a-long-name.pages.example/")),
        health: if is_bad { Health::NotReady } else { Health::Ready },
        reason: if is_bad { "NotSynced" } else { "Ready" }.to_owned(),
        message: is_bad.then(|| format!("{hostile} {}", "no-space-at-all-".repeat(20))),
        commit: Some("c0ffee0123456789".to_owned()),
        published: Some("2026-01-01T00:00:00Z".to_owned()),
    }
}
