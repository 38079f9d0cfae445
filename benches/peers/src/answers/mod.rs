//! Sends the same requests to our server, nginx and lighttpd; each difference needs a row with a
//! reason.
//!
//! The two other servers agree where a rule is plain. Where they disagree, or where only ours
//! differs, the difference needs a decision. `docs/static-server-differences.md` has the rows, and
//! this check fails for a difference without a row and for a row without a difference.

mod answer;
mod cases;
mod table;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kiln_host::job::{self, Programs};
use kiln_host::println;
use kiln_host::process;

use crate::servers::{self, Kind, Place, Server};
use answer::Known;
use cases::Case;
use table::{Row, Three};

/// The servers, in the order of the table's columns.
const SERVERS: [Kind; 3] = [Kind::Ours, Kind::Nginx, Kind::Lighttpd];

/// The longest silence of a server; after it the bytes so far count as the answer.
const SILENCE: Duration = Duration::from_secs(2);

/// Sends all requests, compares the differences with the rows, and prints how many requests differ.
pub fn check(job: &job::Answers) -> Result<()> {
    let page = job.table.display();
    let text = fs::read_to_string(&job.table).with_context(|| format!("cannot read {page}"))?;
    let rows = table::parse(&text).with_context(|| format!("cannot parse {page}"))?;
    let answers = ask_all(&job.programs)?;
    let differing: Vec<_> = answers.iter().filter(|(_, three)| differs(three)).collect();
    let found = differing.iter().map(|(case, three)| (case.group, case.name.as_str(), three));
    let (unexplained, unused) = table::compare(&rows, found);
    if !unexplained.is_empty() || !unused.is_empty() {
        bail!(
            "{page} does not match the answers; differences without a row:\n{}\nrows without a difference:\n{}",
            unexplained.iter().map(Row::render).collect::<String>(),
            unused.iter().map(Row::render).collect::<String>()
        );
    }
    let (all, differing) = (answers.len(), differing.len());
    println!("{all} requests, {differing} with answers that differ, each for a known reason");
    Ok(())
}

fn differs(three: &Three) -> bool {
    three.iter().any(|answer| *answer != three[0])
}

fn ask_all(programs: &Programs) -> Result<Vec<(Case, Three)>> {
    let scratch = tempfile::tempdir().context("cannot create a temporary folder")?;
    let site = scratch.path().join("site");
    let known = content(&site)?;
    let cases = cases::all();
    let mut columns = Vec::new();
    for kind in SERVERS {
        let own = scratch.path().join(format!("{kind:?}"));
        let place = Place { content: &site, scratch: &own, core: None, probe: "/a.txt" };
        columns.push(servers::start(programs, kind, place)?);
    }
    let ask = |server: &Server| ask_one(server.address, &cases, &known);
    let ask = &ask;
    let columns = thread::scope(|scope| {
        let threads: Vec<_> =
            columns.iter().map(|server| scope.spawn(move || ask(server))).collect();
        let joined = threads.into_iter().map(|thread| {
            thread.join().unwrap_or_else(|_| bail!("a thread that sent requests panicked"))
        });
        joined.collect::<Result<Vec<_>>>()
    })?;
    let three = |at: usize| [0, 1, 2].map(|column: usize| columns[column][at].clone());
    Ok(cases.into_iter().enumerate().map(|(at, case)| (case, three(at))).collect())
}

/// Writes the site: pages, a compressed form next to one of them, hidden names, names that need
/// percent-encoding.
fn content(site: &Path) -> Result<Known> {
    let files: [(&str, &str); 10] = [
        ("index.html", "<p>the first page</p>\n"),
        ("a.txt", "0123456789abcdefghij"),
        ("a b.txt", "a name with a space\n"),
        ("\u{fc}.txt", "a name that is not ASCII\n"),
        ("style.css", "body { color: black }\n"),
        ("style.css.gz", "not looked into"),
        ("dir/index.html", "<p>a page in a folder</p>\n"),
        ("dir/in.txt", "a text below\n"),
        (".hidden", "hidden\n"),
        (".well-known/x", "known well\n"),
    ];
    let mut known = Known::default();
    for (name, text) in files {
        let path = site.join(name);
        let folder = path.parent().context("a file has a folder")?;
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        known.add(name, text.as_bytes());
    }
    fs::create_dir_all(site.join("empty"))?;
    Ok(known)
}

fn ask_one(address: SocketAddr, cases: &[Case], known: &Known) -> Result<Vec<String>> {
    let context = "cannot get the validators of /a.txt";
    let plain = exchange(address, b"GET /a.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .context(context)?;
    let tag = answer::field(&plain, "etag").context(context)?;
    // A server without the field gets a time that no file can have.
    let time = answer::field(&plain, "last-modified")
        .unwrap_or_else(|| "Sat, 21 Nov 2026 00:00:00 GMT".to_owned());
    let mut answers = Vec::new();
    for case in cases {
        process::check_interrupt()?;
        let request = case.request(&tag, &time);
        let bytes = exchange(address, &request).with_context(|| case.name.clone())?;
        answers.push(answer::summary(&bytes, &case.methods(), known));
    }
    Ok(answers)
}

/// Sends the request, closes the sending side, and reads until the server closes or is silent.
fn exchange(address: SocketAddr, request: &[u8]) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(SILENCE))?;
    // A server may close the connection before it has read the whole request.
    let sent = stream.write_all(request).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(bytes),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset || sent.is_err() => {
                return Ok(bytes);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Ok([&bytes, &b"..."[..]].concat());
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Counts the cases of each group.
#[cfg(test)]
fn groups(cases: &[Case]) -> std::collections::BTreeMap<&'static str, usize> {
    let mut groups = std::collections::BTreeMap::new();
    for case in cases {
        *groups.entry(case.group).or_insert(0) += 1;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/static-server-differences.md");

    #[test]
    fn there_are_several_hundred_requests_with_different_names() {
        let cases = cases::all();
        assert!(cases.len() >= 300, "{}", cases.len());
        assert!(groups(&cases).values().all(|count| *count >= 5), "{:?}", groups(&cases));
        let mut names: Vec<_> = cases.iter().map(|case| (case.group, &case.name)).collect();
        names.sort();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn every_row_of_the_table_shows_a_difference_and_gives_a_reason() {
        let text = fs::read_to_string(TABLE).unwrap();
        let rows = table::parse(&text).unwrap();
        let groups = groups(&cases::all());
        for row in &rows {
            assert!(groups.contains_key(row.group.as_str()), "no such group: {}", row.group);
            assert!(row.why.len() > 10 && differs(&row.three), "{row:?}");
        }
    }
}
