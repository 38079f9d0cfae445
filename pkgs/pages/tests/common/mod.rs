//! A git server for tests: repositories in memory, and protocol version 2 over HTTP.
//!
//! A real server cannot be made to hang, to redirect or to lie in every way that a test needs.

#![allow(dead_code, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use gix_hash::{Kind, ObjectId};
use pages::guard::lookup::{Guard, Resolve};
use pages::guard::policy::Policy;

/// Paths with contents.
type Tree<'a> = Vec<(Vec<&'a str>, &'a [u8])>;

/// A repository.
#[derive(Clone)]
pub struct Repository {
    hash: Kind,
    objects: BTreeMap<ObjectId, (gix_object::Kind, Vec<u8>)>,
    refs: BTreeMap<String, ObjectId>,
}

impl Repository {
    pub fn new(hash: Kind) -> Self {
        Self { hash, objects: BTreeMap::new(), refs: BTreeMap::new() }
    }

    fn add(&mut self, kind: gix_object::Kind, bytes: Vec<u8>) -> ObjectId {
        let id = gix_object::compute_hash(self.hash, kind, &bytes).unwrap();
        self.objects.insert(id, (kind, bytes));
        id
    }

    /// Replaces a branch by one commit with these files; a content that begins with `->` is a link.
    pub fn push(&mut self, branch: &str, files: &[(&str, &str)]) -> String {
        let files: Tree<'_> = files
            .iter()
            .map(|(path, content)| (path.split('/').collect(), content.as_bytes()))
            .collect();
        let tree = self.tree(&files);
        let text = format!(
            "tree {tree}\nauthor A <a> 1700000000 +0000\ncommitter A <a> 1700000000 +0000\n\nx\n"
        );
        let commit = self.add(gix_object::Kind::Commit, text.into_bytes());
        self.refs.insert(format!("refs/heads/{branch}"), commit);
        self.refs.insert("HEAD".to_owned(), commit);
        commit.to_string()
    }

    pub fn delete(&mut self, branch: &str) {
        self.refs.remove(&format!("refs/heads/{branch}"));
    }

    /// Points a reference, by its full name, to the commit of a branch.
    pub fn point(&mut self, reference: &str, branch: &str) {
        let commit = self.refs[&format!("refs/heads/{branch}")];
        self.refs.insert(reference.to_owned(), commit);
    }

    fn tree(&mut self, files: &Tree<'_>) -> ObjectId {
        let mut folders: BTreeMap<&str, Tree<'_>> = BTreeMap::new();
        // Git sorts folders as if their names ended with a slash.
        let mut entries: BTreeMap<String, (&str, String, ObjectId)> = BTreeMap::new();
        for (path, content) in files {
            match &path[..] {
                [name] => {
                    let link = content.strip_prefix(b"->");
                    let id = self.add(gix_object::Kind::Blob, link.unwrap_or(content).to_vec());
                    let mode = if link.is_some() { "120000" } else { "100644" };
                    entries.insert((*name).to_owned(), (mode, (*name).to_owned(), id));
                }
                [name, rest @ ..] => {
                    folders.entry(name).or_default().push((rest.to_vec(), content));
                }
                [] => {}
            }
        }
        for (name, below) in folders {
            let id = self.tree(&below);
            entries.insert(format!("{name}/"), ("40000", name.to_owned(), id));
        }
        let mut bytes = Vec::new();
        for (mode, name, id) in entries.values() {
            bytes.extend_from_slice(format!("{mode} {name}\0").as_bytes());
            bytes.extend_from_slice(id.as_slice());
        }
        self.add(gix_object::Kind::Tree, bytes)
    }

    fn reachable(&self, id: ObjectId, found: &mut BTreeSet<ObjectId>) {
        found.insert(id);
        let (kind, bytes) = &self.objects[&id];
        match kind {
            gix_object::Kind::Commit => {
                let tree = gix_object::CommitRefIter::from_bytes(bytes, self.hash).tree_id();
                self.reachable(tree.unwrap(), found);
            }
            gix_object::Kind::Tree => {
                for entry in gix_object::TreeRefIter::from_bytes(bytes, self.hash) {
                    self.reachable(entry.unwrap().oid.to_owned(), found);
                }
            }
            _ => {}
        }
    }

    fn pack(&self, want: ObjectId) -> Vec<u8> {
        let mut found = BTreeSet::new();
        self.reachable(want, &mut found);
        let mut pack = b"PACK\0\0\0\x02".to_vec();
        pack.extend_from_slice(&u32::try_from(found.len()).unwrap().to_be_bytes());
        for id in &found {
            let (kind, bytes) = &self.objects[id];
            let kind = match kind {
                gix_object::Kind::Commit => 1,
                gix_object::Kind::Tree => 2,
                gix_object::Kind::Blob => 3,
                gix_object::Kind::Tag => 4,
            };
            let mut size = bytes.len();
            let mut byte = kind << 4 | u8::try_from(size & 15).unwrap();
            size >>= 4;
            while size > 0 {
                pack.push(byte | 0x80);
                byte = u8::try_from(size & 0x7f).unwrap();
                size >>= 7;
            }
            pack.push(byte);
            let mut coder = ZlibEncoder::new(&mut pack, Compression::fast());
            coder.write_all(bytes).unwrap();
            coder.finish().unwrap();
        }
        let mut hasher = gix_hash::hasher(self.hash);
        hasher.update(&pack);
        pack.extend_from_slice(hasher.try_finalize().unwrap().as_slice());
        pack
    }
}

/// The behaviour of a server.
#[derive(Clone)]
pub enum Mode {
    /// Answers as a git server.
    Serve,
    /// Accepts connections and never answers.
    Hang,
    /// Stops in the middle of the pack.
    Stall,
    /// Redirects the first request to this base URL.
    Redirect(String),
    /// Answers with this status.
    Status(u16),
    /// Claims to send this number of objects.
    Objects(u32),
    /// Sends a pack that never ends.
    Endless,
    /// Answers with a web page.
    Page,
}

/// A running server. Its threads end with the process.
#[derive(Clone)]
pub struct Server {
    pub address: SocketAddr,
    pub repository: Arc<Mutex<Repository>>,
    pub mode: Arc<Mutex<Mode>>,
    /// The `Authorization` fields of all requests.
    pub authorizations: Arc<Mutex<Vec<String>>>,
    /// The number of connections.
    pub connections: Arc<AtomicUsize>,
    /// The objects of Git LFS by their digests; without any, the server has no LFS.
    pub objects: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    /// The beginning of the URLs of objects.
    pub downloads: Arc<Mutex<String>>,
}

impl Server {
    pub fn start(repository: Repository) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            repository: Arc::new(Mutex::new(repository)),
            mode: Arc::new(Mutex::new(Mode::Serve)),
            authorizations: Arc::default(),
            connections: Arc::default(),
            objects: Arc::default(),
            downloads: Arc::default(),
        };
        let own = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                own.connections.fetch_add(1, Ordering::Relaxed);
                let own = own.clone();
                std::thread::spawn(move || drop(own.talk(&stream.unwrap())));
            }
        });
        server
    }

    pub fn url(&self, host: &str) -> String {
        format!("http://{host}:{}/team/site.git", self.address.port())
    }

    pub fn set(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    fn talk(&self, stream: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
            let mut length = 0;
            loop {
                let mut field = String::new();
                reader.read_line(&mut field)?;
                if field.trim().is_empty() {
                    break;
                }
                let (name, value) = field.split_once(':').unwrap();
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => length = value.trim().parse().unwrap(),
                    "authorization" => {
                        self.authorizations.lock().unwrap().push(value.trim().to_owned());
                    }
                    _ => {}
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            self.answer(stream, &target, &String::from_utf8_lossy(&body))?;
        }
    }

    /// Answers as a server of Git LFS.
    fn answer_lfs(&self, mut stream: &TcpStream, target: &str, body: &str) -> std::io::Result<()> {
        let objects = self.objects.lock().unwrap().clone();
        let found = if target.ends_with("/info/lfs/objects/batch") {
            (!objects.is_empty()).then(|| self.batch(&objects, body).into_bytes())
        } else {
            target.rsplit('/').next().and_then(|digest| objects.get(digest).cloned())
        };
        let (status, bytes) = found.map_or((404, Vec::new()), |bytes| (200, bytes));
        write!(stream, "HTTP/1.1 {status} x\r\nContent-Length: {}\r\n\r\n", bytes.len())?;
        stream.write_all(&bytes)
    }

    fn batch(&self, objects: &BTreeMap<String, Vec<u8>>, body: &str) -> String {
        let asked: serde_json::Value = serde_json::from_str(body).unwrap();
        let base = self.downloads.lock().unwrap().clone();
        let place = |object: &serde_json::Value| {
            let digest = object["oid"].as_str().unwrap();
            if objects.contains_key(digest) {
                let download = serde_json::json!({ "href": format!("{base}/lfs/{digest}") });
                serde_json::json!({ "oid": digest, "actions": { "download": download } })
            } else {
                serde_json::json!({ "oid": digest, "error": { "code": 404, "message": "missing" } })
            }
        };
        let places: Vec<_> = asked["objects"].as_array().unwrap().iter().map(place).collect();
        serde_json::json!({ "transfer": "basic", "objects": places }).to_string()
    }

    fn answer(&self, mut stream: &TcpStream, target: &str, body: &str) -> std::io::Result<()> {
        let mode = self.mode.lock().unwrap().clone();
        match mode {
            Mode::Hang => {
                // Ends when the client closes the connection.
                return stream.read(&mut [0]).map(drop);
            }
            Mode::Status(status) => {
                return write!(stream, "HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n");
            }
            Mode::Redirect(base) if target.contains("info/refs") => {
                let tail = &target[target.find("info/refs").unwrap()..];
                return write!(
                    stream,
                    "HTTP/1.1 302 x\r\nLocation: {base}/{tail}\r\nContent-Length: 0\r\n\r\n"
                );
            }
            Mode::Page => {
                return write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi"
                );
            }
            _ => {}
        }
        if target.contains("/lfs") {
            return self.answer_lfs(stream, target, body);
        }
        let repository = self.repository.lock().unwrap().clone();
        let (kind, answer) = if target.contains("info/refs") {
            ("advertisement", advertisement(&repository))
        } else if body.contains("command=ls-refs") {
            ("result", references(&repository))
        } else {
            let want = &body[body.find("want ").unwrap() + 5..];
            let want = want.split_ascii_whitespace().next().unwrap();
            let want = ObjectId::from_hex(want.as_bytes()).unwrap();
            let mut pack = repository.pack(want);
            if let Mode::Objects(count) = mode {
                pack[8..12].copy_from_slice(&count.to_be_bytes());
            }
            ("result", packfile(&pack, want))
        };
        let end = if matches!(mode, Mode::Endless) { 1 << 40 } else { answer.len() };
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-{kind}\r\n"
        )?;
        if kind == "result" && body.contains("command=fetch") {
            write!(stream, "Content-Length: {end}\r\n\r\n")?;
            match mode {
                Mode::Stall => {
                    stream.write_all(&answer[..answer.len() / 2])?;
                    return stream.read(&mut [0]).map(drop);
                }
                Mode::Endless => return endless(stream, &answer),
                _ => return stream.write_all(&answer),
            }
        }
        write!(stream, "Content-Length: {}\r\n\r\n", answer.len())?;
        stream.write_all(&answer)
    }
}

/// Sends the beginning of a pack, then noise forever.
fn endless(mut stream: &TcpStream, answer: &[u8]) -> std::io::Result<()> {
    let header = answer.windows(4).position(|part| part == b"PACK").unwrap() - 5;
    stream.write_all(&answer[..header])?;
    // One blob that claims 2^34 bytes, stored without compression.
    let mut start = b"\x01PACK\0\0\0\x02\0\0\0\x05".to_vec();
    start.extend_from_slice(&[0xb0, 0x80, 0x80, 0x80, 0x80, 0x08, 0x78, 0x01]);
    let mut out = Vec::new();
    line(&mut out, &start);
    stream.write_all(&out)?;
    let mut part = vec![1, 0];
    part.extend_from_slice(&1000_u16.to_le_bytes());
    part.extend_from_slice(&(!1000_u16).to_le_bytes());
    part.extend_from_slice(&[7; 1000]);
    let mut out = Vec::new();
    line(&mut out, &part);
    loop {
        stream.write_all(&out)?;
    }
}

fn line(out: &mut Vec<u8>, content: &[u8]) {
    out.extend_from_slice(format!("{:04x}", content.len() + 4).as_bytes());
    out.extend_from_slice(content);
}

fn advertisement(repository: &Repository) -> Vec<u8> {
    let mut out = Vec::new();
    line(&mut out, b"# service=git-upload-pack\n");
    out.extend_from_slice(b"0000");
    line(&mut out, b"version 2\n");
    line(&mut out, b"ls-refs=unborn\n");
    line(&mut out, b"fetch=shallow\n");
    line(&mut out, format!("object-format={}\n", repository.hash).as_bytes());
    out.extend_from_slice(b"0000");
    out
}

fn references(repository: &Repository) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, id) in &repository.refs {
        line(&mut out, format!("{id} {name}\n").as_bytes());
    }
    out.extend_from_slice(b"0000");
    out
}

fn packfile(pack: &[u8], want: ObjectId) -> Vec<u8> {
    let mut out = Vec::new();
    line(&mut out, b"shallow-info\n");
    let mut text = String::new();
    write!(text, "shallow {want}").unwrap();
    line(&mut out, text.as_bytes());
    out.extend_from_slice(b"0001");
    line(&mut out, b"packfile\n");
    for part in pack.chunks(60_000) {
        line(&mut out, &[&[1], part].concat());
    }
    out.extend_from_slice(b"0000");
    out
}

/// A resolver with a list of answers for each name; the last answer is repeated.
#[derive(Debug, Default)]
pub struct Names(pub Mutex<BTreeMap<String, Vec<IpAddr>>>);

impl Resolve for Names {
    fn resolve(&self, host: &str, _: Duration) -> std::io::Result<Vec<IpAddr>> {
        let mut names = self.0.lock().unwrap();
        let answers = names.get_mut(host).ok_or(std::io::ErrorKind::NotFound)?;
        let answer = answers[0];
        if answers.len() > 1 {
            answers.remove(0);
        }
        Ok(vec![answer])
    }
}

/// Returns a guard that allows `*.example` over HTTP, and an internal forge at 127.0.0.1.
pub fn guard(names: &[(&str, &[&str])]) -> Guard {
    let names = names.iter().map(|(name, answers)| {
        ((*name).to_owned(), answers.iter().map(|text| text.parse().unwrap()).collect())
    });
    let policy = Policy {
        hosts: vec!["*.example".parse().unwrap()],
        plain: vec!["*.example".parse().unwrap()],
        networks: vec!["127.0.0.1/32".parse().unwrap()],
    };
    Guard::new(policy, Arc::new(Names(Mutex::new(names.collect()))))
}
